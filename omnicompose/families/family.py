"""What a family map says: where encoder, connector, backbone, norm, embedding and head live.

A checkpoint's tensor names are turned into a part (backbone, encoder or connector) and a name
inside that part by prefix rules; backbone names are those of the family's plain causal language
model (`model.layers.0.mlp.up_proj.weight`, `lm_head.weight`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from omnicompose.errors import SourceError

PartKind = Literal["backbone", "encoder", "connector", "unused"]
Role = Literal["attention", "mlp", "norm", "bias", "embedding", "head", "other"]

ROLE_PATTERNS: tuple[tuple[Role, re.Pattern[str]], ...] = (
    ("bias", re.compile(r"\.bias$")),
    ("norm", re.compile(r"norm\w*\.weight$")),
    ("embedding", re.compile(r"embed_tokens\.weight$")),
    ("head", re.compile(r"^lm_head\.")),
    ("attention", re.compile(r"\.self_attn\.")),
    ("mlp", re.compile(r"\.mlp\.")),
)
VOCABULARY_ROLES: tuple[Role, ...] = ("embedding", "head")
LAYER_PATTERN = re.compile(r"\.layers\.(\d+)\.")


def role_of(backbone_name: str) -> Role:
    """What a backbone tensor does, from its name: the first pattern that matches."""
    return next((role for role, pattern in ROLE_PATTERNS if pattern.search(backbone_name)), "other")


def layer_of(backbone_name: str) -> int | None:
    """The block that a backbone tensor belongs to, or None outside the blocks."""
    match = LAYER_PATTERN.search(backbone_name)
    return int(match.group(1)) if match else None


@dataclass(frozen=True, slots=True, kw_only=True)
class PartName:
    """Where a tensor of a checkpoint belongs.

    Attributes:
        part: backbone, encoder or connector; unused where a composite has no place for it.
        modality: whose encoder or connector; None for the backbone, and for what all media of a
            family share.
        name: the tensor's name inside that part.
    """

    part: PartKind
    modality: str | None
    name: str


@dataclass(frozen=True, slots=True)
class Rule:
    """Names that start with `prefix` belong to `part`; the prefix becomes `to`."""

    prefix: str
    part: PartKind
    modality: str | None = None
    to: str = ""

    def apply(self, name: str) -> PartName | None:
        """The part that `name` belongs to by this rule, or None."""
        if not name.startswith(self.prefix):
            return None
        return PartName(
            part=self.part, modality=self.modality, name=self.to + name[len(self.prefix) :]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleMap:
    """How an architecture's configuration describes one of our modules.

    Attributes:
        type: key in the registry of encoders or connectors.
        options: our configuration key to the dotted path in the architecture's configuration.
        fixed: further keys of our configuration with their values.
    """

    type: str
    options: Mapping[str, str]
    fixed: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeMedia:
    """How one modality reaches a family's language model through the family's own code.

    Attributes:
        token: attribute of the family's processor that holds the placeholder's text.
        ids: attributes of the family's configuration with the token ids that stand for embeddings.
        input_name: the main input of the family's model for this modality.
        unused: children of the base model that this modality does not need.
        samples_frames: whether the family's chat code chooses frames though its video processor,
            called by itself, does not.
    """

    token: str
    ids: tuple[str, ...]
    input_name: str
    unused: tuple[str, ...] = ()
    samples_frames: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeModel:
    """A family whose towers, connectors and tiling run as its own base model, without its LLM.

    Attributes:
        base_class: the model class of transformers that joins media and language model.
        media: modality to how it enters.
        language_model: the attribute of the base model that is the language model.
        config: dotted path of the family's own configuration inside `config.json`.
        structure: tokens that its prompts put around embeddings; their rows are the expert's.
            `*` stands for any text.
        packages: what its processor imports beyond our own dependencies, as pip knows it.
    """

    base_class: str
    media: Mapping[str, NativeMedia]
    language_model: str = "language_model"
    config: str = ""
    structure: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One architecture of transformers, as the composer sees it.

    Attributes:
        architecture: its class, as `architectures[0]` of a config.json names it.
        layouts: one tuple of rules per on-disk layout; a checkpoint must fit one of them whole.
        text_config: dotted path of the backbone's configuration; empty for a plain language model.
        encoders: modality to encoder.
        connectors: modality to connector.
        placeholder_ids: modality to the dotted path of its placeholder's token id.
        native: for families that run as they are instead of being rebuilt from our modules.
        note: what a user should know, where it is not the usual.
    """

    architecture: str
    layouts: tuple[tuple[Rule, ...], ...]
    text_config: str = ""
    encoders: Mapping[str, ModuleMap] = field(default_factory=dict)
    connectors: Mapping[str, ModuleMap] = field(default_factory=dict)
    placeholder_ids: Mapping[str, str] = field(default_factory=dict)
    native: NativeModel | None = None
    note: str = ""

    @property
    def modalities(self) -> tuple[str, ...]:
        """What it understands beside text."""
        return tuple(self.native.media if self.native else self.encoders)

    def children(self, modality: str) -> tuple[str, ...]:
        """What of a family that runs as it is a modality needs, by the first words of its names."""
        unused = self.native.media[modality].unused if self.native else ()
        found = {rule.to for rule in self.layouts[0] if rule.part == "encoder"}
        return tuple(sorted(child for child in found if child.removesuffix(".") not in unused))

    def locate(self, names: list[str]) -> dict[str, PartName]:
        """Every tensor name with its part, by the first layout that explains them all.

        Raises:
            SourceError: no layout explains all names, or two names are one tensor of a part.
        """
        misfits: list[list[str]] = []
        for layout in self.layouts:
            located = {name: _apply(layout, name) for name in names}
            found = {name: part for name, part in located.items() if part is not None}
            if len(found) == len(names):
                self._check_one_to_one(found)
                return found
            misfits.append([name for name in names if name not in found])
        raise SourceError(
            f"{self.architecture}: tensor {min(misfits, key=len)[0]!r} is in no known layout of "
            "this architecture. Expected names that start with "
            + " or ".join("/".join(rule.prefix for rule in layout) for layout in self.layouts)
            + ". Check the checkpoint, or add the layout to omnicompose/families/layouts.py."
        )

    def _check_one_to_one(self, located: Mapping[str, PartName]) -> None:
        owners: dict[PartName, str] = {}
        for name, part in located.items():
            if part in owners:
                raise SourceError(
                    f"{self.architecture}: tensors {owners[part]!r} and {name!r} are both "
                    f"{part.name!r} of one part. Expected each tensor once; remove the one that "
                    "does not belong."
                )
            owners[part] = name


def _apply(layout: tuple[Rule, ...], name: str) -> PartName | None:
    return next((part for rule in layout if (part := rule.apply(name)) is not None), None)
