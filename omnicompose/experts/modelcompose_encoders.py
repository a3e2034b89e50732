"""The encoders of ModelCompose's experts, which lie outside their folders, each in its own layout.

CLIP and LanguageBind are folders with a `config.json`; BEATs is one file `{"cfg", "model"}`;
Point-BERT is one file of tensors. Either file may be safetensors, with what its pickle says beside
the tensors in `NAME.cfg.json`; for Point-BERT this file may also name what tensors cannot tell.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from omnicompose.errors import SourceError
from omnicompose.experts import modelcompose_names as names
from omnicompose.experts import modelcompose_profile as profile
from omnicompose.experts.config import dig_mapping, read_json
from omnicompose.experts.expert import Module, Origin, Weights
from omnicompose.tensors.memory import MemorySource
from omnicompose.tensors.opening import open_weights
from omnicompose.tensors.pickled import SUFFIXES, tensors_of, unpickle
from omnicompose.tensors.selected import SelectedSource
from omnicompose.tensors.source import TensorSource

CLIP_FIELDS = (
    "hidden_size",
    "intermediate_size",
    "projection_dim",
    "num_hidden_layers",
    "num_attention_heads",
    "num_channels",
    "image_size",
    "patch_size",
    "hidden_act",
    "layer_norm_eps",
)
BEATS_FIELDS = {
    "patch_width": "embed_dim",
    "hidden_size": "encoder_embed_dim",
    "intermediate_size": "encoder_ffn_embed_dim",
    "num_layers": "encoder_layers",
    "num_heads": "encoder_attention_heads",
    "conv_kernel": "conv_pos",
    "conv_groups": "conv_pos_groups",
    "num_buckets": "num_buckets",
    "max_distance": "max_distance",
    "patch_size": "input_patch_size",
    "activation": "activation_fn",
    "deep_norm": "deep_norm",
}
"""Our settings of BEATs by the keys of a checkpoint's `cfg`."""
BEATS_MUST = {
    "layer_norm_first": False,
    "conv_bias": False,
    "relative_position_embedding": True,
    "gru_rel_pos": True,
}
"""What every published checkpoint has, and what is not built otherwise."""
POINT_BERT = {"num_heads": 6, "num_group": 512, "group_size": 32}
"""Point-BERT v1.2, which the published code names in its source and not beside the weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an encoder lies.

    Attributes:
        label: how the user named it.
        path: a folder or a file.
        allow_pickle: whether pickled tensors may be read.
    """

    label: str
    path: Path
    allow_pickle: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedEncoder:
    """An encoder with all that its media need.

    Attributes:
        module: how to build it, and its weights.
        preprocessing: configuration of its preprocessor; empty where media are taken as they are.
        inventory: every tensor in its files.
    """

    module: Module
    preprocessing: Mapping[str, object]
    inventory: frozenset[Origin]


Options = Mapping[str, object]


def open_encoder(modality: str, place: Place, expert_config: Options) -> OpenedEncoder:
    """The encoder of an expert.

    Args:
        modality: what it understands.
        place: where it lies.
        expert_config: `config.json` of the expert, which says what of the encoder is used.

    Raises:
        SourceError: it is not what ModelCompose has for this modality.
    """
    return OPENERS[modality](place, expert_config)


def _open_clip(place: Place, expert: Options) -> OpenedEncoder:
    config = read_json(place.path / "config.json")
    vision = config if "patch_size" in config else _mapping(place, config, "vision_config")
    select = expert.get("mm_vision_select_feature", "patch")
    settings = {
        "vision_config": {key: vision[key] for key in CLIP_FIELDS if key in vision},
        "feature_layer": expert.get("mm_vision_select_layer", -1),
        "select": "default" if select == "patch" else "full",
    }
    side = _size(place, vision, "image_size")
    pad = expert.get("image_aspect_ratio", "pad") == "pad"
    source = open_weights(place.path, place.label, allow_pickle=place.allow_pickle)
    return _opened(place, source, names.CLIP, "clip_vision", settings, profile.image(side, pad=pad))


def _open_languagebind(place: Place, expert: Options) -> OpenedEncoder:
    vision = _mapping(place, read_json(place.path / "config.json"), "vision_config")
    if not vision.get("add_time_attn") or vision.get("lora_r"):
        raise SourceError(
            f"{place.label}: found add_time_attn {vision.get('add_time_attn')!r} and lora_r "
            f"{vision.get('lora_r')!r}, expected LanguageBind's video tower with its LoRA merged "
            "in. Give that one (LanguageBind_Video_merge)."
        )
    num_frames = _size(place, vision, "num_frames")
    settings = {
        "vision_config": {key: vision[key] for key in CLIP_FIELDS if key in vision},
        "num_frames": num_frames,
        "feature_layer": expert.get("mm_video_select_layer", -1),
    }
    source = open_weights(place.path, place.label, allow_pickle=place.allow_pickle)
    preprocessing = profile.video(_size(place, vision, "image_size"), num_frames)
    return _opened(
        place, source, names.LANGUAGEBIND_VIDEO, "languagebind_video", settings, preprocessing
    )


def _open_beats(place: Place, _: Options) -> OpenedEncoder:
    source, config = _open_file(place, tensors="model", settings="cfg")
    missing = [key for key in BEATS_FIELDS.values() if key not in config]
    if missing:
        raise SourceError(
            f"{place.label}: found no {missing[0]!r} in the settings of BEATs. Expected a "
            'checkpoint {"cfg", "model"}, or safetensors with NAME.cfg.json beside them.'
        )
    for key, value in BEATS_MUST.items():
        if config.get(key) != value:
            raise SourceError(
                f"{place.label}: found a BEATs with {key} {config.get(key)!r}, expected {value!r} "
                "as in every published checkpoint. Give one of these."
            )
    settings = {ours: config[theirs] for ours, theirs in BEATS_FIELDS.items()}
    return _opened(place, source, names.BEATS, "beats", settings, profile.AUDIO)


def _open_point_bert(place: Place, _: Options) -> OpenedEncoder:
    source, config = _open_file(place, tensors="state_dict", settings="")
    renamed = _renamed(place, source, names.POINT_BERT)
    needed = ("cls_token", "reduce_dim.weight", "encoder.first_conv.0.weight")
    if missing := [name for name in needed if name not in renamed]:
        raise SourceError(
            f"{place.label}: found no tensor {missing[0]!r}, expected those of a Point-BERT. Give "
            "its weights."
        )
    shapes = {name: source.infos()[renamed[name]].shape for name in renamed}
    said = POINT_BERT | {key: config[key] for key in POINT_BERT if key in config}
    blocks = {name.split(".")[2] for name in renamed if name.startswith("blocks.blocks.")}
    settings = {
        "hidden_size": shapes["cls_token"][-1],
        "num_layers": len(blocks),
        "num_heads": said["num_heads"],
        "num_groups": said["num_group"],
        "group_size": said["group_size"],
        "group_width": shapes["reduce_dim.weight"][1],
        "point_size": shapes["encoder.first_conv.0.weight"][1],
    }
    return _opened(place, source, names.POINT_BERT, "point_bert", settings, {})


OPENERS: Mapping[str, Callable[[Place, Options], OpenedEncoder]] = {
    "image": _open_clip,
    "audio": _open_beats,
    "video": _open_languagebind,
    "point": _open_point_bert,
}


def _opened(
    place: Place,
    source: TensorSource,
    table: tuple[names.Renaming, ...],
    kind: str,
    settings: Mapping[str, object],
    preprocessing: Mapping[str, object],
) -> OpenedEncoder:
    origins = {name: Origin(label=place.label, name=name) for name in source.infos()}
    renamed = _renamed(place, source, table)
    weights = Weights(
        source=SelectedSource(source, renamed),
        origins={new: (origins[old],) for new, old in renamed.items()},
    )
    return OpenedEncoder(
        module=Module(type=kind, config=settings, weights=weights),
        preprocessing=preprocessing,
        inventory=frozenset(origins.values()),
    )


def _renamed(
    place: Place, source: TensorSource, table: tuple[names.Renaming, ...]
) -> dict[str, str]:
    return names.rename(source.infos(), table, place.label)


def _open_file(
    place: Place, *, tensors: str, settings: str
) -> tuple[TensorSource, Mapping[str, object]]:
    """The tensors of one file and what it says beside them.

    Args:
        place: a pickle or safetensors.
        tensors: where a pickle keeps its tensors, if not at its top.
        settings: where it keeps its settings; empty: nowhere.
    """
    if not place.path.is_file():
        raise SourceError(f"{place.label}: {place.path} is no file. Give the file of the weights.")
    beside = place.path.with_suffix(".cfg.json")
    said = read_json(beside) if beside.is_file() else {}
    if place.path.suffix not in SUFFIXES:
        return open_weights(place.path, place.label), said
    content = unpickle(place.path, allow_pickle=place.allow_pickle)
    if isinstance(content, Mapping):
        found = content.get(settings, {})
        said = {**found, **said} if isinstance(found, Mapping) else said
        content = content.get(tensors, content)
    found_tensors = tensors_of(place.path, content)
    return MemorySource(place.label, found_tensors, (place.path,)), said


def _mapping(place: Place, config: Mapping[str, object], key: str) -> dict[str, object]:
    try:
        return dig_mapping(config, key)
    except KeyError:
        raise SourceError(
            f"{place.label}: config.json has no {key!r}, expected that of the published encoder. "
            "Give its folder."
        ) from None


def _size(place: Place, config: Mapping[str, object], key: str) -> int:
    value = config.get(key)
    if not isinstance(value, int):
        raise SourceError(
            f"{place.label}: found {key} {value!r} in config.json, expected a whole number. "
            "Restore the file."
        )
    return value
