"""What the configurations of a source say: whether it composes, its lineage, tokens per medium."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from omnicompose.errors import OmniComposeError, SourceError
from omnicompose.experts.checkpoint import Checkpoint, open_checkpoint
from omnicompose.experts.config import dig_mapping, read_json, read_model_config
from omnicompose.experts.expert import Weights
from omnicompose.experts.lineage import compare_weights
from omnicompose.experts.lineage_fields import compare_configs
from omnicompose.experts.modelcompose import THEIR_NAMES
from omnicompose.experts.opening import host_of, open_base
from omnicompose.experts.own_format import ExpertFile, read_expert_file
from omnicompose.experts.refusals import family_of, refuse_quantised
from omnicompose.experts.resolve import resolve_text
from omnicompose.inspection_tokens import Described, tokens_of, tokens_of_checkpoint
from omnicompose.recipe_values import parse_source

PICKLED = (
    "pytorch_model*.bin",
    "adapter_model.bin",
    "mm_projector.bin",
    "non_lora_trainables.bin",
)
"""Files of tensors that older models have in place of safetensors."""
EXPERT_FACTS = ("modality", "base", "strategy", "encoder", "connector")
ADAPTER_FACTS = ("base_model_name_or_path", "r", "lora_alpha", "target_modules", "modules_to_save")
MODELCOMPOSE_FACTS = ("lora_strategy", "lora_r", "lora_alpha", "_name_or_path")
BACKBONE_SIZES = ("hidden_size", "num_hidden_layers")
CONFIG_FACTS = ("model_type", "architectures", "encoder_type", "num_hidden_layers", "hidden_size")
Config = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Looking:
    """How a source is looked at.

    Attributes:
        base: a plain language model to compare its backbone with; None: none.
        allow_pickle: look into pickled weights too.
    """

    base: str | None
    allow_pickle: bool


def facts_of(
    kind: str, label: str, folder: Path, config: Config, looking: Looking
) -> dict[str, object]:
    """What is known of a folder.

    Args:
        kind: `expert`, `modelcompose`, `adapter` or `checkpoint`.
        label: how the user named it.
        folder: where it lies.
        config: the file that made it this kind.
        looking: how it is looked at.
    """
    facts = {
        "expert": _expert_facts,
        "modelcompose": _modelcompose_facts,
        "adapter": _adapter_facts,
        "checkpoint": _checkpoint_facts,
    }[kind](label, folder, config, looking)
    pickled = sorted(path.name for pattern in PICKLED for path in folder.glob(pattern))
    if pickled and not looking.allow_pickle and not any(folder.glob("*.safetensors")):
        facts["not looked into"] = f"{', '.join(pickled)} (pickled; --allow-pickle looks into it)"
    return facts | _card_facts(folder)


def _picked(config: Config, keys: tuple[str, ...]) -> dict[str, object]:
    return {key: config[key] for key in keys if config.get(key) is not None}


def _card_facts(folder: Path) -> dict[str, object]:
    """What the model card says that it was made from."""
    card = folder / "README.md"
    if not card.is_file():
        return {}
    parts = card.read_text(encoding="utf-8", errors="replace").split("---\n", 2)
    try:
        said = yaml.safe_load(parts[1]) if len(parts) == 3 and not parts[0].strip() else None
    except yaml.YAMLError:
        return {}
    named = said.get("base_model") if isinstance(said, dict) else None
    return {"base_model_of_its_card": named} if named else {}


def _expert_facts(label: str, folder: Path, config: Config, _: Looking) -> dict[str, object]:
    facts = _picked(config, EXPERT_FACTS)
    try:
        file = read_expert_file(folder, label)
        place = folder / "encoder"
        if file.encoder.source is not None:
            place = resolve_text(file.encoder.source, folder)[1]
    except SourceError as error:
        return facts | {"composes": f"no: {error}"}
    entry = file.model_dump() | {"encoder": _encoder_entry(file, place)}
    own = folder if (folder / "preprocessor_config.json").is_file() else place
    described = Described(
        modality=file.modality,
        entry=entry,
        preprocessor=None if file.modality == "point" else own,
    )
    return facts | _tokens(lambda: tokens_of(described))


def _encoder_entry(file: ExpertFile, place: Path) -> dict[str, object]:
    """The encoder's description: its own folder's, or what `expert.json` repeats of it."""
    path = place / "config.json"
    said = read_json(path) if path.is_file() else {}
    config = said.get("config") if "encoder_type" in said else file.encoder.config
    return {"type": file.encoder.type, "config": config}


def _modelcompose_facts(label: str, folder: Path, config: Config, _: Looking) -> dict[str, object]:
    theirs = {ours: name for ours, name in THEIR_NAMES.items() if config.get(f"mm_{name}_encoder")}
    encoders = {ours: config[f"mm_{name}_encoder"] for ours, name in theirs.items()}
    kinds = {
        ours: config.get(f"mm_{'' if name == 'vision' else f'{name}_'}projector_type", "linear")
        for ours, name in theirs.items()
    }
    facts: dict[str, object] = {"modalities": ", ".join(theirs), "encoder": encoders}
    return facts | {"connector": kinds} | _picked(config, MODELCOMPOSE_FACTS)


def _adapter_facts(label: str, folder: Path, config: Config, looking: Looking) -> dict[str, object]:
    facts = _picked(config, ADAPTER_FACTS)
    try:
        host = host_of(label, folder, allow_pickle=looking.allow_pickle)
    except OmniComposeError:
        return facts  # Its base is named above; `base+adapter` says where it lies here.
    return facts | _opened_facts(host, looking)


def _checkpoint_facts(
    label: str, folder: Path, config: Config, looking: Looking
) -> dict[str, object]:
    facts = _picked(config, CONFIG_FACTS)
    if "encoder_type" in config:
        return facts
    try:
        refuse_quantised(label, config)
        family = family_of(label, config)
        filled = read_model_config(folder)
        facts |= _backbone_facts(dig_mapping(filled, family.text_config))
        named = config.get("text_config")
        if isinstance(named, Mapping) and named.get("_name_or_path"):
            facts["backbone_from"] = named["_name_or_path"]
        facts["modalities"] = ", ".join(family.modalities) or "text"
        host = open_checkpoint(label, folder, allow_pickle=looking.allow_pickle)
    except SourceError as error:
        return facts | {"composes": f"no: {error}"}
    return facts | _opened_facts(host, looking)


def _opened_facts(host: Checkpoint, looking: Looking) -> dict[str, object]:
    facts: dict[str, object] = {"modalities": ", ".join(host.family.modalities) or "text"}
    facts |= _tokens(lambda: tokens_of_checkpoint(host))
    if looking.base is not None:
        facts["lineage"] = _lineage(host, looking.base, allow_pickle=looking.allow_pickle)
    return facts


def _backbone_facts(text: Config) -> dict[str, object]:
    sizes = " x ".join(str(text[key]) for key in BACKBONE_SIZES if key in text)
    return {"backbone": f"{text.get('model_type')}, {sizes}, {text.get('vocab_size')} rows"}


def _tokens(count: Callable[[], dict[str, int]]) -> dict[str, object]:
    found = count()
    return {"tokens_per_item": found} if found else {}


def _lineage(host: Checkpoint, named: str, *, allow_pickle: bool) -> dict[str, object]:
    """How the backbone lies to a base: fields that differ, else what sampled weights say."""
    try:
        base = open_base(parse_source(named, Path.cwd()), allow_pickle=allow_pickle)
    except ValueError as error:
        raise SourceError(str(error)) from error
    differences = compare_configs(base.config, host.text_config)
    if differences:
        return {"another base": "; ".join(map(str, differences))}
    names = _shared_matrices(base.weights, host.part("backbone"))
    found = compare_weights(base.weights.source, host.part("backbone").source, names)
    return {
        "compared with": f"{found.num_tensors} tensors of {named}, sampled",
        "identical": found.num_identical,
        "relative distance": f"{found.relative_delta:.4g}",
        "cosine": f"{found.cosine:.6f}",
    }


def _shared_matrices(ours: Weights, theirs: Weights) -> list[str]:
    """Matrices of one shape in both; the tables of a vocabulary may be longer."""
    found, others = ours.source.infos(), theirs.source.infos()
    return [
        name
        for name, info in found.items()
        if len(info.shape) == 2 and name in others and others[name].shape == info.shape
    ]
