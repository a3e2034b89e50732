"""What a source is made of, from configurations and headers alone: `omnicompose inspect`."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from omnicompose.errors import SourceError
from omnicompose.experts.config import read_json
from omnicompose.experts.kinds import ADAPTER_FILE, CONFIG_FILE, EXPERT_FILE, is_modelcompose
from omnicompose.experts.resolve import resolve, source_here
from omnicompose.families import FAMILIES, Family, PartName
from omnicompose.inspection_facts import PICKLED, Looking, facts_of
from omnicompose.tensors.checkpoint import open_safetensors
from omnicompose.tensors.opening import open_weights
from omnicompose.tensors.source import TensorInfo

LOW_RANK = ("adapter", "adapter/", "text/", "modality/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Tensors that belong together.

    Attributes:
        name: backbone, an encoder, a connector, or the folder of an adapter.
        num_tensors: how many.
        num_parameters: elements of all of them.
        num_bytes: as stored.
        dtypes: of their elements.
        fate: what composing does with them.
    """

    name: str
    num_tensors: int
    num_parameters: int
    num_bytes: int
    dtypes: tuple[str, ...]
    fate: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """Everything that headers say about a source.

    Attributes:
        source: as the user named it.
        folder: where it lies.
        kind: `expert` of our own format, `modelcompose`, `adapter`, or `checkpoint`.
        facts: from its configuration.
        parts: what its tensors belong to.
        adapter: what lies on top of it, for `base+adapter`.
    """

    source: str
    folder: str
    kind: str
    facts: Mapping[str, object]
    parts: tuple[Part, ...]
    adapter: "Inspection | None" = None

    def to_json(self) -> dict[str, object]:
        """The fields as plain data."""
        return asdict(self)


def inspect_source(text: str, *, base: str | None = None, allow_pickle: bool = False) -> Inspection:
    """Look at a folder, `zoo:NAME`, hub id or `base+adapter`.

    Args:
        text: the source.
        base: another source, a plain language model: does the backbone descend from it?
        allow_pickle: look into pickled weights too.

    Raises:
        SourceError: it leads nowhere, or to a folder that is none of what we know.
    """
    looking = Looking(base=base, allow_pickle=allow_pickle)
    source = source_here(text)
    adapter = None
    if source.adapter is not None:
        adapter = inspect_source(source.adapter.text, allow_pickle=allow_pickle)
    return _inspect_folder(text, resolve(source, allow_pickle=allow_pickle), looking, adapter)


def _inspect_folder(
    text: str, folder: Path, looking: Looking, adapter: Inspection | None
) -> Inspection:
    files = {EXPERT_FILE: "expert", ADAPTER_FILE: "adapter", CONFIG_FILE: "checkpoint"}
    found = next((name for name in files if (folder / name).is_file()), None)
    if found is None:
        raise SourceError(f"{text}: found none of {', '.join(files)} in {folder}. Name a model.")
    kind = "modelcompose" if is_modelcompose(folder) else files[found]
    config = read_json(folder / found)
    return Inspection(
        source=text,
        folder=str(folder),
        kind=kind,
        facts=facts_of(kind, text, folder, config, looking),
        parts=tuple(_parts(folder, config, kind, looking)),
        adapter=adapter,
    )


def _parts(
    folder: Path, config: Mapping[str, object], kind: str, looking: Looking
) -> Iterable[Part]:
    """The parts of the folder's own tensors, then one part per sub-folder with tensors."""
    infos = _infos(folder, looking)
    groups: dict[str, list[TensorInfo]] = {}
    names = _part_names(config, kind, list(infos))
    for name, info in infos.items():
        groups.setdefault(names[name], []).append(info)
    yield from (_part(name, members) for name, members in groups.items())
    for place in sorted(path for path in folder.iterdir() if path.is_dir()):
        if inside := _infos(place, looking):
            yield _part(f"{place.name}/", list(inside.values()))


def _infos(folder: Path, looking: Looking) -> Mapping[str, TensorInfo]:
    """Every tensor of a folder; none where there is none that may be looked at."""
    if any(folder.glob("*.safetensors")):
        return open_safetensors(folder, str(folder)).infos()
    if not looking.allow_pickle:
        return {}
    files = sorted(path for pattern in PICKLED for path in folder.glob(pattern))
    opened = (open_weights(path, str(path), allow_pickle=True) for path in files)
    return {name: info for source in opened for name, info in source.infos().items()}


def _part_names(config: Mapping[str, object], kind: str, names: list[str]) -> dict[str, str]:
    """Tensor name to part; by the first words of the name where the architecture is unknown."""
    if kind == "modelcompose":
        return {name: _modelcompose_part(name) for name in names}
    whole = {"expert": "connector", "adapter": "adapter"}.get(kind)
    if whole or "encoder_type" in config:
        return dict.fromkeys(names, whole or "encoder")
    family = _family(config)
    try:
        located = family.locate(names) if family else {}
    except SourceError:  # The facts say that it does not compose, and why.
        located = {}
    by_words = {name: ".".join(name.split(".")[:2]) for name in names}
    return by_words | {name: _part_name(part) for name, part in located.items()}


def _family(config: Mapping[str, object]) -> Family | None:
    architectures = config.get("architectures")
    if not isinstance(architectures, list) or not architectures:
        return None
    return FAMILIES.get(str(architectures[0]))


def _modelcompose_part(name: str) -> str:
    if ".lora_" in name:
        return f"adapter {name.split('.')[-2]}"
    return "connector" if "modal_projectors" in name else "prefix and suffix"


def _part_name(part: PartName) -> str:
    """`image encoder`, or `encoder: vision_tower` where a family's modalities share its parts."""
    if part.part in ("encoder", "unused") and part.modality is None:
        return f"{part.part}: {part.name.split('.')[0]}"
    return f"{part.modality or ''} {part.part}".strip()


def _fate(name: str) -> str:
    if name.startswith("unused"):
        return "left aside"
    if name.startswith(("backbone", "adapter ")) or name in LOW_RANK:
        return "merged"
    return "copied" if any(word in name for word in ("encoder", "connector", "prefix")) else ""


def _part(name: str, tensors: list[TensorInfo]) -> Part:
    return Part(
        name=name,
        num_tensors=len(tensors),
        num_parameters=sum(tensor.num_elements for tensor in tensors),
        num_bytes=sum(tensor.num_bytes for tensor in tensors),
        dtypes=tuple(sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors})),
        fate=_fate(name),
    )
