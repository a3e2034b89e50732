"""A composite's preprocessors, each medium by itself: a batch is what its samples are alone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import torch

from omnicompose.errors import ModelInputError
from omnicompose.modalities import MODALITIES
from omnicompose.modeling.media_inputs import Medium, Reading, read_medium
from omnicompose.streams import TEXT

SAMPLING_OPTIONS = ("num_frames", "fps", "do_sample_frames")
Options = Mapping[str, object]

BLANK_DTYPES = {"image": np.uint8, "video": np.uint8, "audio": np.float32}
_FLAT_OPTIONS = {"sampling_rate": "audio", **dict.fromkeys(SAMPLING_OPTIONS, "video")}
OTHER_NAMES = {"input_features": "input_values", "pixel_values_videos": "pixel_values"}
"""What some preprocessors (wav2vec 2.0, AST, VideoMAE) call the inputs of their models."""
_GROUPS = {
    "images_kwargs": "image",
    "videos_kwargs": "video",
    "audio_kwargs": "audio",
    "points_kwargs": "point",
    "text_kwargs": TEXT,
}


class Preprocessor(Protocol):
    """An image processor, feature extractor or video processor of transformers."""

    def __call__(self, medium: Medium, **options: object) -> Mapping[str, torch.Tensor]:
        """Model inputs of one medium, as a batch of one."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessors:
    """One per modality; None where the composite has none."""

    image: Preprocessor | None
    audio: Preprocessor | None
    video: Preprocessor | None

    def tensors(
        self, modality: str, media: Sequence[Medium], options: Options
    ) -> list[torch.Tensor]:
        """The preprocessed tensor of each medium.

        Args:
            modality: of all media.
            media: paths or media in memory.
            options: what the modality's preprocessor takes.

        Raises:
            ModelInputError: there is no preprocessor for the modality.
            MediaError: a file is not what its modality says, or holds nothing.
        """
        if modality == "point":
            return [_cloud(medium, options) for medium in media]
        part: Preprocessor | None = getattr(self, modality)
        if part is None:
            raise ModelInputError(
                f"{modality}: this processor has no preprocessor for it, though the model has an "
                "encoder. Save the processor again with all its parts."
            )
        one = {"image": _picture, "audio": _sound, "video": _clip}[modality]
        name = MODALITIES[modality].input_name
        return [_named(one(part, medium, options), name) for medium in media]


def _named(inputs: Mapping[str, torch.Tensor], name: str) -> torch.Tensor:
    """The one medium that a preprocessor gives; some call it otherwise."""
    return inputs[name if name in inputs else OTHER_NAMES[name]][0]


def _cloud(medium: Medium, options: Options) -> torch.Tensor:
    """A cloud `[P, C]` fp32 as it is; with the option `normalize` its points fill a unit sphere."""
    points = read_medium("point", medium, Reading(sample_rate_hz=0))
    cloud = torch.as_tensor(np.asarray(points), dtype=torch.float32)
    if not options.get("normalize"):
        return cloud
    centred = cloud[:, :3] - cloud[:, :3].mean(dim=0)
    return torch.cat([centred / centred.norm(dim=1).max(), cloud[:, 3:]], dim=1)


def _picture(part: Preprocessor, medium: Medium, options: Options) -> Mapping[str, torch.Tensor]:
    picture = read_medium("image", medium, Reading(sample_rate_hz=0))
    return part(picture, return_tensors="pt", **options)


def _sound(part: Preprocessor, medium: Medium, options: Options) -> Mapping[str, torch.Tensor]:
    rate = cast(int, part.sampling_rate)  # type: ignore[attr-defined]  # every feature extractor's
    reading = Reading(sample_rate_hz=rate, resampler=getattr(part, "resampler", "soxr"))
    sound = read_medium("audio", medium, reading)
    # A file was resampled while reading; an array has the rate that the caller names.
    named = rate if isinstance(medium, str | Path) else options.get("sampling_rate", rate)
    return part(sound, return_tensors="pt", **{**options, "sampling_rate": named})


def _clip(part: Preprocessor, medium: Medium, options: Options) -> Mapping[str, torch.Tensor]:
    reading = Reading(sample_rate_hz=0, choose_frames=_frame_choice(part, options))
    clip = read_medium("video", medium, reading)
    if isinstance(medium, str | Path):  # The frames were chosen while reading.
        others = {name: value for name, value in options.items() if name not in SAMPLING_OPTIONS}
        options = {**others, "do_sample_frames": False}
    elif {"num_frames", "fps"} & set(options):
        options = {"do_sample_frames": True, **options}
    return part(clip, return_tensors="pt", **options)


def _frame_choice(part: Preprocessor, options: Options) -> Callable[..., Sequence[int]] | None:
    asked = {name: options[name] for name in ("num_frames", "fps") if name in options}
    samples = options.get("do_sample_frames", getattr(part, "do_sample_frames", False))
    if not samples and not asked:
        return None
    return partial(part.sample_frames, **asked)  # type: ignore[attr-defined]  # every video processor's


def sort_options(kwargs: Options) -> dict[str, dict[str, object]]:
    """Options by the part that they are for."""
    options: dict[str, dict[str, object]] = {name: {} for name in (*MODALITIES, TEXT)}
    for name, value in kwargs.items():
        if name in _GROUPS:
            options[_GROUPS[name]] |= cast(dict[str, object], value)
        else:
            options[_FLAT_OPTIONS.get(name, TEXT)][name] = value
    return options


def stack(tensors: Sequence[torch.Tensor]) -> torch.Tensor | list[torch.Tensor]:
    """One tensor `[N, ...]` if all media have one shape, else the list of them."""
    one_shape = len({tensor.shape for tensor in tensors}) == 1
    return torch.stack(list(tensors)) if one_shape else list(tensors)
