"""One model of a plain merge, opened by headers: its tensors under keys that models share."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from omnicompose.errors import SourceError
from omnicompose.experts.checkpoint import open_checkpoint
from omnicompose.experts.config import read_json
from omnicompose.experts.expert import Origin, Weights
from omnicompose.experts.low_rank import adapt, open_adapter
from omnicompose.experts.opening import host_of
from omnicompose.experts.resolve import resolve
from omnicompose.families import FAMILIES, PartName, Role, layer_of, role_of
from omnicompose.recipe_values import Source
from omnicompose.tensors.adapter_config import CONFIG as ADAPTER_FILE
from omnicompose.tensors.opening import open_weights
from omnicompose.tensors.selected import SelectedSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """What a tensor is called across the models of a merge.

    Attributes:
        part: `backbone`, `encoder` or `connector` of a known family; empty where names decide.
        modality: whose encoder or connector.
        name: the name inside the part, or the name on disk.
    """

    part: str
    modality: str | None
    name: str

    @property
    def role(self) -> Role:
        """What it does; encoders and connectors are `other`, whatever their layers are called."""
        return role_of(self.name) if self.part in ("", "backbone") else "other"

    @property
    def layer(self) -> int | None:
        """Its block of the backbone."""
        return layer_of(self.name) if self.part in ("", "backbone") else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Participant:
    """An opened model.

    Attributes:
        label: how the recipe names it.
        folder: where its configuration and tokenizer lie.
        folders: every folder opened, by label.
        config: its configuration as it lies on disk; empty for raw files.
        weights: by name on disk (the host's names under an adapter).
        keys: name on disk to key.
        inventory: every tensor on disk.
    """

    label: str
    folder: Path
    folders: Mapping[str, Path]
    config: Mapping[str, object]
    weights: Weights
    keys: Mapping[str, Key]
    inventory: frozenset[Origin]

    def names(self) -> dict[Key, str]:
        """Key to name on disk."""
        return {key: name for name, key in self.keys.items()}


def open_participant(source: Source, *, raw: bool, allow_pickle: bool = False) -> Participant:
    """Open a model, a model with a LoRA, or raw tensors.

    Args:
        source: as the recipe names it.
        raw: tensors by name, whatever they belong to.
        allow_pickle: read tensors from pickled weights too.

    Raises:
        SourceError: it cannot be opened.
    """
    if raw:
        return _open_raw(source, allow_pickle=allow_pickle)
    folder = resolve(source, allow_pickle=allow_pickle)
    if source.adapter is not None:
        host = source.text.split("+")[0].strip()
        place = resolve(source.adapter, allow_pickle=allow_pickle)
        return _open_adapted(host, folder, source.adapter.text, place, allow_pickle=allow_pickle)
    if (folder / ADAPTER_FILE).is_file():
        checkpoint = host_of(source.text, folder, allow_pickle=allow_pickle)
        label, place = checkpoint.label, checkpoint.folder
        return _open_adapted(label, place, source.text, folder, allow_pickle=allow_pickle)
    return _open_model(source.text, folder, allow_pickle=allow_pickle)


def _open_raw(source: Source, *, allow_pickle: bool) -> Participant:
    is_path = source.kind == "path"
    path = Path(source.location) if is_path else resolve(source, allow_pickle=allow_pickle)
    opened = open_weights(path, source.text, allow_pickle=allow_pickle)
    names = list(opened.infos())
    return Participant(
        label=source.text,
        folder=path if path.is_dir() else path.parent,
        folders={source.text: path},
        config={},
        weights=Weights(source=opened, origins=_origins(source.text, names)),
        keys={name: Key(part="", modality=None, name=name) for name in names},
        inventory=frozenset(Origin(label=source.text, name=name) for name in names),
    )


def _open_model(label: str, folder: Path, *, allow_pickle: bool) -> Participant:
    config = read_json(folder / "config.json")
    source = open_weights(folder, label, allow_pickle=allow_pickle)
    names = list(source.infos())
    architectures = config.get("architectures")
    architecture = architectures[0] if isinstance(architectures, list) and architectures else None
    family = FAMILIES.get(str(architecture))
    parts: Mapping[str, PartName | None] = (
        family.locate(names) if family else dict.fromkeys(names, None)
    )
    return Participant(
        label=label,
        folder=folder,
        folders={label: folder},
        config=config,
        weights=Weights(source=source, origins=_origins(label, names)),
        keys={name: _key(name, part) for name, part in parts.items()},
        inventory=frozenset(Origin(label=label, name=name) for name in names),
    )


def _key(name: str, part: PartName | None) -> Key:
    if part is None:
        return Key(part="", modality=None, name=name)
    return Key(part=part.part, modality=part.modality, name=part.name)


def _origins(label: str, names: list[str]) -> dict[str, tuple[Origin, ...]]:
    return {name: (Origin(label=label, name=name),) for name in names}


def _open_adapted(
    host_label: str, host_folder: Path, label: str, folder: Path, *, allow_pickle: bool
) -> Participant:
    host = open_checkpoint(host_label, host_folder, allow_pickle=allow_pickle)
    plain = _open_model(host_label, host_folder, allow_pickle=allow_pickle)
    adapter, inventory = open_adapter(folder, label, allow_pickle=allow_pickle)
    located = host.family.locate([*adapter.deltas, *adapter.replacements])
    on_disk = {part: name for name, part in host.parts.items()}
    strange = [name for name, part in located.items() if part not in on_disk]
    if strange:
        raise SourceError(
            f"{label}: adapts {strange[0]!r}, which {host_label} does not have. Name the base that "
            "the adapter was trained on: 'base+adapter'."
        )
    renamed = adapter.renamed({name: on_disk[part] for name, part in located.items()})
    adapted = adapt(plain.weights, renamed)
    return Participant(
        label=label,
        folder=host_folder,
        folders={host_label: host_folder, label: folder},
        config=plain.config,
        weights=Weights(
            source=SelectedSource(adapted.weights.source, {name: name for name in plain.keys}),
            origins=adapted.weights.origins,
        ),
        keys=plain.keys,
        inventory=plain.inventory | inventory,
    )
