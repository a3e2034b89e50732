"""A transformers checkpoint, opened by headers and split into backbone, encoders and connectors."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from omnicompose.errors import SourceError
from omnicompose.experts.config import dig, dig_mapping, read_json, read_model_config
from omnicompose.experts.expert import Backbone, Module, Origin, Weights
from omnicompose.experts.native_module import native_module
from omnicompose.experts.quantised_tensors import refuse_quantised_tensors
from omnicompose.experts.refusals import (
    family_of,
    refuse_gguf,
    refuse_modality,
    refuse_quantised,
)
from omnicompose.families import Family, ModuleMap, PartKind, PartName
from omnicompose.tensors.opening import open_weights
from omnicompose.tensors.selected import SelectedSource
from omnicompose.tensors.source import TensorSource

HEAD = "lm_head.weight"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A folder with `config.json` and weights of a family that we know.

    Attributes:
        label: how the user named it.
        folder: where it lies.
        config: transformers' defaults filled in.
        family: its name map.
        source: all tensors by their names on disk.
        parts: name on disk to the part it belongs to.
    """

    label: str
    folder: Path
    config: Mapping[str, object]
    family: Family
    source: TensorSource
    parts: Mapping[str, PartName]

    @property
    def inventory(self) -> frozenset[Origin]:
        """Every tensor on disk."""
        return frozenset(Origin(label=self.label, name=name) for name in self.parts)

    @property
    def text_config(self) -> dict[str, object]:
        """The backbone's configuration; its head is tied where the checkpoint holds none."""
        text = dig_mapping(self.config, self.family.text_config)
        if self.family.native is None:
            return text
        return text | {"tie_word_embeddings": HEAD not in self.part("backbone").origins}

    def part(self, kind: PartKind, modality: str | None = None) -> Weights:
        """The tensors of one part under their names inside it."""
        inside = {
            name: part
            for name, part in self.parts.items()
            if part.part == kind and part.modality == modality
        }
        return renamed_weights(self, {name: part.name for name, part in inside.items()})

    def backbone(self) -> Backbone:
        """The language model, dense.

        Raises:
            SourceError: the checkpoint lacks its tensors.
        """
        weights = self.part("backbone")
        self._refuse_lost("the language model", bool(weights.origins))
        return Backbone(weights=weights, factors={}, host=weights)

    def encoder(self, modality: str) -> Module:
        """The encoder of a modality as our registry builds it, or the family's own model.

        Raises:
            SourceError: the checkpoint lacks the modality, or tensors of it.
        """
        refuse_modality(self.label, self.family, modality)
        native = self.family.native
        if native is None:
            return self._module("encoder", self.family.encoders, modality)
        weights = self.part("encoder")
        for child in self.family.children(modality):
            found = any(name.startswith(child) for name in weights.origins)
            self._refuse_lost(f"its {child.removesuffix('.')}", found)
        return native_module(native, modality, self.config, weights)

    def connector(self, modality: str) -> Module:
        """The connector of a modality as our registry builds it; a family's own is in its encoder.

        Raises:
            SourceError: the checkpoint lacks the connector's tensors.
        """
        refuse_modality(self.label, self.family, modality)
        if self.family.native is None:
            return self._module("connector", self.family.connectors, modality)
        return Module(type="identity", config={}, weights=renamed_weights(self, {}))

    def _module(self, kind: PartKind, maps: Mapping[str, ModuleMap], modality: str) -> Module:
        module = maps[modality]
        weights = self.part(kind, modality)
        self._refuse_lost(f"the {modality} {kind}", bool(weights.origins))
        config = {key: dig(self.config, path) for key, path in module.options.items()}
        return Module(
            type=module.type,
            config={**config, **module.fixed},
            weights=weights,
        )

    def _refuse_lost(self, part: str, found: bool) -> None:
        if not found:
            raise SourceError(
                f"{self.label}: no tensor of {part} in {self.folder}. Expected the whole "
                "checkpoint; if a fine-tune saved only what it trained, name it as an adapter: "
                "'base+adapter'."
            )


def renamed_weights(checkpoint: Checkpoint, names: Mapping[str, str]) -> Weights:
    """The tensors `names` (on disk to new) of a checkpoint, all others hidden."""
    return Weights(
        source=SelectedSource(checkpoint.source, {new: old for old, new in names.items()}),
        origins={new: (Origin(label=checkpoint.label, name=old),) for old, new in names.items()},
    )


def open_checkpoint(label: str, folder: Path, *, allow_pickle: bool = False) -> Checkpoint:
    """Open a transformers checkpoint without reading weights.

    Raises:
        SourceError: no weights, no configuration, quantised weights, or an architecture that we
            do not know or cannot compose.
    """
    raw = read_json(folder / "config.json")
    refuse_quantised(label, raw)
    family = family_of(label, raw)
    refuse_gguf(label, folder)
    config = read_model_config(folder)
    source = open_weights(folder, label, allow_pickle=allow_pickle)
    refuse_quantised_tensors(label, source.infos().values())
    return Checkpoint(
        label=label,
        folder=folder,
        config=config,
        family=family,
        source=source,
        parts=family.locate(list(source.infos())),
    )
