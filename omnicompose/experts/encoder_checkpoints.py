"""Encoders as people have them: a folder of ours, of transformers, of timm or of open_clip.

All are opened by headers. timm and open_clip keep their preprocessing in a form of their own, which
is put as transformers' image processor has it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from omnicompose.errors import SourceError
from omnicompose.experts.config import dig_mapping, read_json
from omnicompose.experts.encoder_names import PUBLISHED, Published
from omnicompose.experts.expert import Module, Origin, Weights
from omnicompose.experts.kinds import CONFIG_FILE
from omnicompose.experts.modelcompose_names import Renaming, rename
from omnicompose.tensors.opening import open_weights
from omnicompose.tensors.selected import SelectedSource

OPEN_CLIP_FILE = "open_clip_config.json"
OPEN_CLIP_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
FORGOTTEN = ("architectures", "transformers_version", "_name_or_path", "dtype", "torch_dtype")
RESAMPLE = {"bilinear": 2, "bicubic": 3}
"""Ways of making pictures smaller, as Pillow counts them."""
Config = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderCheckpoint:
    """An encoder, opened.

    Attributes:
        module: how to build it, and its weights.
        preprocessor: the folder of its preprocessor's configuration, or the configuration.
        inventory: every tensor in its files.
    """

    module: Module
    preprocessor: Path | Mapping[str, object]
    inventory: frozenset[Origin]


def open_encoder_checkpoint(
    label: str, folder: Path, *, allow_pickle: bool = False
) -> EncoderCheckpoint | None:
    """The encoder in a folder; None where the folder holds no encoder by itself.

    Args:
        label: how the user named it.
        folder: where it lies.
        allow_pickle: read tensors from pickled weights too.

    Raises:
        SourceError: weights are missing, or are not this encoder's.
    """
    if (folder / OPEN_CLIP_FILE).is_file():
        return _open_clip(label, folder, allow_pickle=allow_pickle)
    config = read_json(folder / CONFIG_FILE)
    if "encoder_type" in config:
        kind, settings = str(config["encoder_type"]), dig_mapping(config, "config")
        return _opened(label, folder, (kind, settings), (Renaming("(.+)", r"\1"),), folder)
    if "pretrained_cfg" in config:
        return _open_timm(label, folder, config, allow_pickle=allow_pickle)
    published = PUBLISHED.get(str(config.get("model_type")))
    if published is None:
        return None
    described = (published.type, _settings(label, published, config))
    weights = folder
    return _opened(label, weights, described, published.names, folder, allow_pickle=allow_pickle)


def _settings(label: str, published: Published, config: Config) -> dict[str, object]:
    try:
        found = dig_mapping(config, published.config)
    except KeyError:
        raise SourceError(
            f"{label}: config.json has no {published.config!r}, expected that of a "
            f"{config['model_type']}. Restore the file."
        ) from None
    kept = {key: value for key, value in found.items() if key not in FORGOTTEN}
    return {published.option: kept}


def _open_timm(
    label: str, folder: Path, config: Config, *, allow_pickle: bool
) -> EncoderCheckpoint:
    """A model of timm; its classifier is left out."""
    said = dig_mapping(config, "pretrained_cfg")
    heads = said.get("classifier") or "head"
    names = heads if isinstance(heads, list) else [heads]
    table = (Renaming(rf"(?:{'|'.join(map(str, names))})\..*", ""), Renaming("(.+)", r"tower.\1"))
    options = config.get("model_args") or {}
    settings = {"model": config.get("architecture"), "options": options}
    size = cast(list[int], said.get("input_size", [3, 224, 224]))[-1]
    pictures = _pictures(size, int(size / cast(float, said.get("crop_pct", 1.0))), said)
    described = ("timm_vision", settings)
    return _opened(label, folder, described, table, pictures, allow_pickle=allow_pickle)


def _open_clip(label: str, folder: Path, *, allow_pickle: bool) -> EncoderCheckpoint:
    """The vision tower of an open_clip model; its text tower is left out."""
    config = read_json(folder / OPEN_CLIP_FILE)
    model = dig_mapping(config, "model_cfg")
    said = dict(cast(Config, config.get("preprocess_cfg") or {}))
    vision = dig_mapping(model, "vision_cfg")
    settings: dict[str, object] = {"vision_config": vision, "embed_dim": model["embed_dim"]}
    settings |= {"quick_gelu": bool(model.get("quick_gelu", False))}
    table = (Renaming(r"visual\.(.+)", r"tower.\1"), Renaming(".+", ""))
    size = cast(int, vision.get("image_size", 224))
    file = next((folder / one for one in OPEN_CLIP_WEIGHTS if (folder / one).is_file()), folder)
    pictures = _pictures(size, size, said)
    described = ("open_clip_vision", settings)
    return _opened(label, file, described, table, pictures, allow_pickle=allow_pickle)


def _pictures(size: int, shortest_edge: int, said: Config) -> dict[str, object]:
    """Pictures made smaller until their shorter side has `shortest_edge` pixels, then cropped."""
    half = [0.5, 0.5, 0.5]
    return {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": shortest_edge},
        "crop_size": {"height": size, "width": size},
        "resample": RESAMPLE[str(said.get("interpolation", "bicubic"))],
        "image_mean": said.get("mean", half),
        "image_std": said.get("std", half),
    }


def _opened(
    label: str,
    weights: Path,
    described: tuple[str, Mapping[str, object]],
    table: tuple[Renaming, ...],
    preprocessor: Path | Mapping[str, object],
    *,
    allow_pickle: bool = False,
) -> EncoderCheckpoint:
    source = open_weights(weights, label, allow_pickle=allow_pickle)
    renamed = rename(source.infos(), table, label)
    origins = {name: Origin(label=label, name=name) for name in source.infos()}
    kind, settings = described
    return EncoderCheckpoint(
        module=Module(
            type=kind,
            config=settings,
            weights=Weights(
                source=SelectedSource(source, renamed),
                origins={new: (origins[old],) for new, old in renamed.items()},
            ),
        ),
        preprocessor=preprocessor,
        inventory=frozenset(origins.values()),
    )
