"""ModelCompose's expert folders (arXiv 2402.12750): LoRAs and a projector on a plain LLM.

`config.json` (`model_type: multimodal`) says what there is; `adapter_model` holds LoRA factors
named after their adapter (`default`: the language's, or a modality's own), the projector, prefix
and suffix; `mm_projector` or `non_lora_trainables` may hold the latter instead. Encoders lie
elsewhere. A folder that ModelCompose has merged is opened modality by modality in the same way.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from omnicompose.errors import SourceError
from omnicompose.experts.config import read_json
from omnicompose.experts.expert import Backbone, Base, Expert, Origin, Weights
from omnicompose.experts.low_rank import adapt
from omnicompose.experts.modelcompose_connectors import open_connector
from omnicompose.experts.modelcompose_encoders import Place, open_encoder
from omnicompose.experts.modelcompose_profile import CHAT_TEMPLATE
from omnicompose.experts.resolve import resolve
from omnicompose.recipe_values import Source
from omnicompose.tensors.adapter import LoraAdapter
from omnicompose.tensors.adapter_config import LoraSettings
from omnicompose.tensors.joined import JoinedSource
from omnicompose.tensors.opening import open_weights
from omnicompose.tensors.pickled import SUFFIXES
from omnicompose.tensors.selected import SelectedSource
from omnicompose.tensors.source import TensorSource

MODEL_TYPE = "multimodal"
FILES = ("adapter_model", "mm_projector", "non_lora_trainables")
THEIR_NAMES = {"image": "vision", "audio": "audio", "video": "video", "point": "point"}
LANGUAGE = "default"
STRATEGIES = {
    "same": "one adapter for all tokens",
    "modal": "an adapter for the modality's tokens alone",
    "modal+language": "one for the modality's tokens, one for the others",
    "none": "no adapter",
}
FACTOR = re.compile(r".+\.lora_[AB]\.(?P<adapter>[^.]+)\.weight")
PEFT_PREFIX = re.compile(r"(base_model\.model\.)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A folder with its tensors sorted.

    Attributes:
        label: how the recipe names it.
        folder: where it lies.
        config: its `config.json`.
        weights: all tensors.
        factors: adapter to the names of its factors.
        scales: adapter to what its products are multiplied with beyond alpha / r.
    """

    label: str
    folder: Path
    config: Mapping[str, object]
    weights: TensorSource
    factors: Mapping[str, tuple[str, ...]]
    scales: Mapping[str, float]

    @property
    def inventory(self) -> frozenset[Origin]:
        """Every tensor on disk."""
        return frozenset(Origin(label=self.label, name=name) for name in self.weights.infos())


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a recipe asks of a folder.

    Attributes:
        modality: which of its modalities.
        label: how the recipe names it.
        encoder: where its encoder lies; None: where its configuration says.
        allow_pickle: whether pickled tensors may be read.
    """

    modality: str
    label: str
    encoder: Source | None
    allow_pickle: bool


def is_modelcompose(folder: Path) -> bool:
    """Whether a folder says that it is one of ModelCompose's."""
    path = folder / "config.json"
    return path.is_file() and read_json(path).get("model_type") == MODEL_TYPE


def open_modelcompose(request: Request, folder: Path, base: Base) -> Expert:
    """Open one modality of an expert folder; its LoRAs are laid over `base`.

    Raises:
        SourceError: it lacks the modality, contradicts itself, or its encoder is not found.
    """
    opened = _open(request, folder)
    theirs = THEIR_NAMES[request.modality]
    place = _encoder_place(request, opened)
    encoder = open_encoder(request.modality, place, opened.config)
    projector = _named(opened, f"model.modal_projectors.{theirs}.")
    text, own = _backbones(opened, theirs, base)
    infix = "" if theirs == "vision" else f"{theirs}_"
    kind = str(opened.config.get(f"mm_{infix}projector_type") or "linear")
    return Expert(
        modality=request.modality,
        label=request.label,
        folders={request.label: folder, place.label: place.path},
        text_config=_text_config(opened),
        text=text,
        own=own,
        encoder=encoder.module,
        connector=open_connector(request.label, kind, projector, opened.config),
        affixes=_affixes(opened, theirs),
        preprocessor=encoder.preprocessing,
        inventory=opened.inventory | encoder.inventory,
        chat_template=CHAT_TEMPLATE,
    )


def _open(request: Request, folder: Path) -> Opened:
    config = read_json(folder / "config.json")
    sources = [
        open_weights(path, request.label, allow_pickle=request.allow_pickle)
        for name in FILES
        if (path := _weights_file(folder, name)) is not None
    ]
    if not sources:
        raise SourceError(
            f"{request.label}: found none of {', '.join(FILES)} (.safetensors or .bin) in "
            f"{folder}. Give the folder of a ModelCompose expert."
        )
    weights = JoinedSource(request.label, sources)
    factors: dict[str, tuple[str, ...]] = {}
    for name in weights.infos():
        if match := FACTOR.fullmatch(name):
            factors[match["adapter"]] = (*factors.get(match["adapter"], ()), name)
    return Opened(
        label=request.label,
        folder=folder,
        config=config,
        weights=weights,
        factors=factors,
        scales=_scales(request.label, config),
    )


def _weights_file(folder: Path, name: str) -> Path | None:
    paths = (folder / f"{name}{suffix}" for suffix in (".safetensors", *SUFFIXES))
    return next((path for path in paths if path.is_file()), None)


def _scales(label: str, config: Mapping[str, object]) -> dict[str, float]:
    """What a merged folder says of its adapters: `default-vision=0.5,default-audio=0.5`."""
    if config.get("merge_default_weights"):
        raise SourceError(
            f"{label}: merged by a strategy whose coefficients the published code never reads, so "
            "that its text adapters have no effect. Compose the experts that it was merged from "
            "(merge_info.txt names them)."
        )
    text = config.get("reset_scaling_weights") or ""
    try:
        pairs = [pair.split("=") for pair in str(text).split(",") if pair]
        return {name.strip(): float(number) for name, number in pairs}
    except ValueError as error:
        raise SourceError(
            f"{label}: found reset_scaling_weights {text!r} in config.json, expected "
            "`adapter=number,...`. Restore the file."
        ) from error


def _encoder_place(request: Request, opened: Opened) -> Place:
    """The recipe's encoder, or what the configuration names, if that exists on this machine."""
    source = request.encoder
    if source is not None:
        path = Path(source.location)
        if source.kind != "path" or not path.is_file():
            path = resolve(source, allow_pickle=request.allow_pickle)
        return Place(label=source.text, path=path, allow_pickle=request.allow_pickle)
    key = f"mm_{THEIR_NAMES[request.modality]}_encoder"
    named = opened.config.get(key)
    if not isinstance(named, str) or not named:
        raise SourceError(
            f"{request.label}: config.json names no {key}, so this expert does not understand "
            f"{request.modality}. Put it under the modality that it understands."
        )
    path = opened.folder / named
    if not path.exists():
        raise SourceError(
            f"{request.label}: its encoder {named} is not on this machine. Name it in the recipe: "
            f"`{request.modality}: {{source: ..., encoder: path-or-hub-id}}`."
        )
    return Place(label=named, path=path, allow_pickle=request.allow_pickle)


def _backbones(opened: Opened, theirs: str, base: Base) -> tuple[Backbone, Backbone]:
    """The backbone as text sees it and as the modality's tokens see it."""
    strategy = opened.config.get("lora_strategy") or "none"
    if strategy not in STRATEGIES:
        raise SourceError(
            f"{opened.label}: found lora_strategy {strategy!r}, expected one of "
            f"{', '.join(STRATEGIES)}. Restore config.json."
        )
    merged = f"{LANGUAGE}-{theirs}"
    language = merged if merged in opened.factors else LANGUAGE
    text = _backbone(opened, language, base)
    if strategy == "same" or (strategy == "none" and not opened.factors):
        return text, text
    if theirs not in opened.factors and opened.factors:
        raise SourceError(
            f"{opened.label}: lora_strategy {strategy!r} means {STRATEGIES[str(strategy)]}, but "
            f"found factors of {', '.join(sorted(opened.factors))} only. Restore the expert."
        )
    return text, _backbone(opened, theirs, base) if opened.factors else text


def _backbone(opened: Opened, adapter: str, base: Base) -> Backbone:
    names = opened.factors.get(adapter)
    if names is None:
        return Backbone(weights=base.weights, factors={}, host=base.weights)
    rank, alpha = opened.config.get("lora_r"), opened.config.get("lora_alpha")
    if not isinstance(rank, int) or not isinstance(alpha, int | float):
        raise SourceError(
            f"{opened.label}: found lora_r {rank!r} and lora_alpha {alpha!r} in config.json, "
            "expected numbers. Restore the file."
        )
    settings = LoraSettings(
        r=rank,
        alpha=alpha * opened.scales.get(adapter, 1.0),
        rank_pattern={},
        alpha_pattern={},
        rank_stabilised=False,
        fan_in_fan_out=False,
        base_model=None,
    )
    factors = SelectedSource(opened.weights, {name: name for name in names})
    return adapt(base.weights, LoraAdapter(opened.label, factors, settings))


def _text_config(opened: Opened) -> dict[str, object]:
    """The backbone that the folder describes, as transformers writes it out."""
    from transformers import LlamaConfig

    config: dict[str, object] = LlamaConfig.from_dict(
        {key: value for key, value in opened.config.items() if key != "model_type"}
    ).to_dict()
    return config


def _named(opened: Opened, prefix: str) -> Weights:
    """The tensors under a prefix, which peft may have lengthened, by what follows it."""
    found = {
        PEFT_PREFIX.sub("", name, count=1).removeprefix(prefix): name
        for name in opened.weights.infos()
        if PEFT_PREFIX.sub("", name, count=1).startswith(prefix)
    }
    return Weights(
        source=SelectedSource(opened.weights, found),
        origins={new: (Origin(label=opened.label, name=old),) for new, old in found.items()},
    )


def _affixes(opened: Opened, theirs: str) -> Weights:
    """Prefix and suffix `[1, P, D]` as `[P, D]`."""
    found = {
        end: name
        for end in ("prefix", "suffix")
        if (name := f"{end}_tokens.{theirs}") in opened.weights.infos()
    }
    shapes = {end: opened.weights.infos()[name].shape[1:] for end, name in found.items()}
    return Weights(
        source=SelectedSource(opened.weights, found, shapes),
        origins={end: (Origin(label=opened.label, name=name),) for end, name in found.items()},
    )
