"""An opened expert: every tensor known from headers, none read."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from omnicompose.tensors.source import TensorSource


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Origin:
    """One tensor as it lies on disk: the unit in which a plan accounts for its inputs.

    Attributes:
        label: the folder it lies in, as the user named it.
        name: its name in the file.
    """

    label: str
    name: str

    def __str__(self) -> str:
        """Both, as messages and plans print them."""
        return f"{self.label}:{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Tensors under the names that the composite's plan uses, each with where it comes from.

    Attributes:
        source: gives the elements.
        origins: name to the tensors on disk that make it up (a product has several).
    """

    source: TensorSource
    origins: Mapping[str, tuple[Origin, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Factor:
    """A delta on disk: `scale * B @ A`, by the names of its factors.

    Attributes:
        source: the adapter's own file, factors unmultiplied.
        a_name: `[rank, in]`.
        b_name: `[out, rank]`.
        scale: alpha / rank, or alpha / sqrt(rank) for rank-stabilised LoRA.
        rank: rows of A.
    """

    source: TensorSource
    a_name: str
    b_name: str
    scale: float
    rank: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Backbone:
    """An expert's LLM as one kind of its tokens sees it.

    Attributes:
        weights: every tensor of the causal language model by its name there, dense.
        factors: those that are the host's weight plus a product, by name.
        host: what the factors are added to; the same names.
    """

    weights: Weights
    factors: Mapping[str, Factor]
    host: Weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """An encoder or connector: how to build it and where its weights are.

    Attributes:
        type: key in the registry of encoders or connectors.
        config: JSON that rebuilds the module without weights.
        weights: its tensors by their names in the module.
    """

    type: str
    config: Mapping[str, object]
    weights: Weights

    def describe(self) -> dict[str, object]:
        """The entry of the composite's configuration."""
        return {"type": self.type, "config": dict(self.config)}


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeProcessor:
    """The processor of an expert whose family runs as it is.

    Attributes:
        folder: where its configuration lies.
        token: attribute of the processor that holds the placeholder's text.
        ids: token ids of the expert that stand for embeddings.
        samples_frames: whether its clips are sampled though its video processor would not do so.
    """

    folder: Path
    token: str
    ids: tuple[int, ...]
    samples_frames: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Expert:
    """One multimodal model that a composite is made from.

    Attributes:
        modality: what it understands beside text.
        label: how the recipe names it.
        folders: every folder that was opened, for the manifest.
        text_config: of the backbone, transformers' defaults filled in.
        text: the backbone as its text tokens see it.
        own: the backbone as its media tokens see it; the same object for single-adapter experts.
        encoder: raw media to features.
        connector: features to embeddings.
        affixes: `prefix` and `suffix` embeddings `[P, D]`, where it has them.
        preprocessor: the folder whose preprocessor configuration its media need, or the
            configuration itself; empty where media are taken as they are.
        inventory: every tensor on disk in any folder opened for it.
        tokenizer: the folder of its own tokenizer, if it has one.
        structure: patterns of tokens that its prompts put around embeddings.
        processor: where its family runs as it is, the family's own processor.
        chat_template: of its prompts, where no tokenizer of its own says so.
    """

    modality: str
    label: str
    folders: Mapping[str, Path]
    text_config: Mapping[str, object]
    text: Backbone
    own: Backbone
    encoder: Module
    connector: Module
    affixes: Weights
    preprocessor: Path | Mapping[str, object]
    inventory: frozenset[Origin]
    tokenizer: Path | None = None
    structure: tuple[str, ...] = ()
    processor: NativeProcessor | None = None
    chat_template: str | None = None

    @property
    def decoupled(self) -> bool:
        """Whether it was trained with separate weights for its media tokens."""
        return self.own is not self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """The plain language model that every backbone descends from.

    Attributes:
        label: how the recipe names it.
        folder: where it lies; its tokenizer is the composite's.
        config: transformers' defaults filled in.
        weights: every tensor by its name in the causal language model.
        inventory: every tensor on disk.
    """

    label: str
    folder: Path
    config: Mapping[str, object]
    weights: Weights
    inventory: frozenset[Origin]
