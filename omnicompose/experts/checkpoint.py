"""A transformers checkpoint, opened by headers and split into backbone, encoders and connectors."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from omnicompose.errors import SourceError
from omnicompose.experts.config import dig, dig_mapping, read_model_config
from omnicompose.experts.expert import Backbone, Module, Origin, Weights
from omnicompose.families import FAMILIES, Family, ModuleMap, PartKind, PartName
from omnicompose.tensors.opening import open_weights
from omnicompose.tensors.selected import SelectedSource
from omnicompose.tensors.source import TensorSource


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
        """The backbone's configuration."""
        return dig_mapping(self.config, self.family.text_config)

    def part(self, kind: PartKind, modality: str | None = None) -> Weights:
        """The tensors of one part under their names inside it."""
        inside = {
            name: part
            for name, part in self.parts.items()
            if part.part == kind and part.modality == modality
        }
        return renamed_weights(self, {name: part.name for name, part in inside.items()})

    def backbone(self) -> Backbone:
        """The language model, dense."""
        weights = self.part("backbone")
        return Backbone(weights=weights, factors={}, host=weights)

    def encoder(self, modality: str) -> Module:
        """The encoder of a modality as our registry builds it."""
        return self._module("encoder", self.family.encoders, modality)

    def connector(self, modality: str) -> Module:
        """The connector of a modality as our registry builds it."""
        return self._module("connector", self.family.connectors, modality)

    def _module(self, kind: PartKind, maps: Mapping[str, ModuleMap], modality: str) -> Module:
        if modality not in maps:
            has = ", ".join(maps) or "no modality at all"
            raise SourceError(
                f"{self.label}: {self.family.architecture} has no {kind} for {modality}; it has "
                f"{has}. Put it under the modality that it understands."
            )
        module = maps[modality]
        config = {key: dig(self.config, path) for key, path in module.options.items()}
        return Module(
            type=module.type,
            config={**config, **module.fixed},
            weights=self.part(kind, modality),
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
        SourceError: no weights, no configuration, or an architecture that we do not know.
    """
    config = read_model_config(folder)
    family = family_of(label, config)
    source = open_weights(folder, label, allow_pickle=allow_pickle)
    return Checkpoint(
        label=label,
        folder=folder,
        config=config,
        family=family,
        source=source,
        parts=family.locate(list(source.infos())),
    )


def family_of(label: str, config: Mapping[str, object]) -> Family:
    """The name map of a configuration's architecture.

    Raises:
        SourceError: it names none, or one that we do not know.
    """
    architectures = config.get("architectures")
    name = architectures[0] if isinstance(architectures, list) and architectures else None
    if name not in FAMILIES:
        raise SourceError(
            f"{label}: architecture {name!r} is not one that can be composed yet. Known: "
            f"{', '.join(FAMILIES)}. A new family is one entry in omnicompose/families.py."
        )
    return FAMILIES[str(name)]
