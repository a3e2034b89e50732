"""What a source is made of, from configurations and headers alone: `omnicompose inspect`."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from omnicompose.errors import SourceError
from omnicompose.experts.config import dig_mapping, read_json, read_model_config
from omnicompose.experts.opening import CONFIG_FILE
from omnicompose.experts.own_format import EXPERT_FILE
from omnicompose.experts.resolve import resolve
from omnicompose.experts.tokens_per_item import tokens_per_item
from omnicompose.families import FAMILIES, Family, PartName
from omnicompose.recipe_values import parse_source
from omnicompose.tensors.adapter_config import CONFIG as ADAPTER_FILE
from omnicompose.tensors.checkpoint import open_safetensors
from omnicompose.tensors.source import TensorInfo

EXPERT_FACTS = ("modality", "base", "strategy", "encoder", "connector")
ADAPTER_FACTS = ("base_model_name_or_path", "r", "lora_alpha", "target_modules", "modules_to_save")
LOW_RANK = ("adapter", "adapter/", "text/", "modality/")
BACKBONE_SIZES = ("hidden_size", "num_hidden_layers")
CONFIG_FACTS = ("model_type", "architectures", "encoder_type", "num_hidden_layers", "hidden_size")


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
        kind: `expert` of our own format, `adapter`, or `checkpoint`.
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


def inspect_source(text: str) -> Inspection:
    """Look at a folder, `zoo:NAME`, hub id or `base+adapter`.

    Raises:
        SourceError: it leads nowhere, or to a folder that is none of what we know.
    """
    try:
        source = parse_source(text, Path.cwd())
    except ValueError as error:
        raise SourceError(str(error)) from error
    adapter = None if source.adapter is None else inspect_source(source.adapter.text)
    return _inspect_folder(text, resolve(source), adapter)


def _inspect_folder(text: str, folder: Path, adapter: Inspection | None) -> Inspection:
    kinds = {
        EXPERT_FILE: ("expert", EXPERT_FACTS),
        ADAPTER_FILE: ("adapter", ADAPTER_FACTS),
        CONFIG_FILE: ("checkpoint", CONFIG_FACTS),
    }
    found = next((name for name in kinds if (folder / name).is_file()), None)
    if found is None:
        raise SourceError(f"{text}: found none of {', '.join(kinds)} in {folder}. Name a model.")
    kind, keys = kinds[found]
    config = read_json(folder / found)
    return Inspection(
        source=text,
        folder=str(folder),
        kind=kind,
        facts={key: config[key] for key in keys if config.get(key) is not None}
        | _family_facts(folder, config),
        parts=tuple(_parts(folder, config, kind)),
        adapter=adapter,
    )


def _family_facts(folder: Path, config: Mapping[str, object]) -> dict[str, object]:
    """What the family map adds: modalities, the language model, tokens per medium."""
    family = _family(config)
    if family is None:
        return {}
    filled = read_model_config(folder)
    text = dig_mapping(filled, family.text_config)
    sizes = " x ".join(str(text[key]) for key in BACKBONE_SIZES if key in text)
    facts: dict[str, object] = {
        "modalities": ", ".join(family.modalities) or "text",
        "backbone": f"{text.get('model_type')}, {sizes}, {text.get('vocab_size')} rows",
    }
    named = config.get("text_config")
    if isinstance(named, Mapping) and named.get("_name_or_path"):
        facts["backbone_from"] = named["_name_or_path"]
    if tokens := tokens_per_item(folder, family, filled):
        facts["tokens_per_item"] = tokens
    return facts


def _family(config: Mapping[str, object]) -> Family | None:
    architectures = config.get("architectures")
    return FAMILIES.get(str(architectures[0])) if isinstance(architectures, list) else None


def _parts(folder: Path, config: Mapping[str, object], kind: str) -> Iterable[Part]:
    """The parts of the folder's own tensors, then one part per sub-folder with tensors."""
    if any(folder.glob("*.safetensors")):
        infos = open_safetensors(folder, str(folder)).infos()
        groups: dict[str, list[TensorInfo]] = {}
        names = _part_names(config, kind, list(infos))
        for name, info in infos.items():
            groups.setdefault(names[name], []).append(info)
        yield from (_part(name, members) for name, members in groups.items())
    for place in sorted(path for path in folder.iterdir() if path.is_dir()):
        if any(place.glob("*.safetensors")):
            tensors = open_safetensors(place, str(place)).infos().values()
            yield _part(f"{place.name}/", list(tensors))


def _part_names(config: Mapping[str, object], kind: str, names: list[str]) -> dict[str, str]:
    """Tensor name to part; by the first words of the name where the architecture is unknown."""
    whole = {"expert": "connector", "adapter": "adapter"}.get(kind)
    if whole or "encoder_type" in config:
        return dict.fromkeys(names, whole or "encoder")
    family = _family(config)
    if family is None:
        return {name: ".".join(name.split(".")[:2]) for name in names}
    return {name: _part_name(part) for name, part in family.locate(names).items()}


def _part_name(part: PartName) -> str:
    """`image encoder`, or `encoder: vision_tower` where a family's modalities share its parts."""
    if part.part in ("encoder", "unused") and part.modality is None:
        return f"{part.part}: {part.name.split('.')[0]}"
    return f"{part.modality or ''} {part.part}".strip()


def _fate(name: str) -> str:
    if name.startswith("unused"):
        return "left aside"
    if name.startswith("backbone") or name in LOW_RANK:
        return "merged"
    return "copied" if "encoder" in name or "connector" in name else ""


def _part(name: str, tensors: list[TensorInfo]) -> Part:
    return Part(
        name=name,
        num_tensors=len(tensors),
        num_parameters=sum(tensor.num_elements for tensor in tensors),
        num_bytes=sum(tensor.num_bytes for tensor in tensors),
        dtypes=tuple(sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors})),
        fate=_fate(name),
    )
