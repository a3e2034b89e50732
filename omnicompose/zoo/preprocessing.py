"""The zoo's preprocessors: plain transformers classes, the same in training and in use."""

import json
import shutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import torch

from omnicompose.zoo.draw import NUM_FRAMES, SIDE
from omnicompose.zoo.media import SAMPLE_RATE_HZ, Raw
from omnicompose.zoo.world import MODALITY_SLOTS, Item

Batch = tuple[dict[str, torch.Tensor], torch.Tensor]
"""Labels `[N]` per slot, and preprocessed media `[N, ...]`."""

PREPROCESSOR_NAME = "preprocessor_config.json"
WHISPER_RATE_HZ = 16000
NUM_MEL_BINS = 80
WINDOW = 800
"""Samples per window: 50 ms tell the harmonics of a low voice apart, Whisper's own 25 ms do not."""

_GREY = [0.5, 0.5, 0.5]


class Preprocessor(Protocol):
    """A transformers image, video or sound preprocessor."""

    def save_pretrained(self, save_directory: str | Path) -> list[str]:
        """Write its configuration into a folder."""
        ...


@cache
def make_preprocessor(modality: str) -> Preprocessor:
    """The preprocessor of one of the zoo's modalities."""
    # Imported here: loading transformers' vision classes takes seconds.
    from transformers import (
        CLIPImageProcessor,
        LlavaOnevisionVideoProcessor,
        WhisperFeatureExtractor,
    )

    sides = {"height": SIDE, "width": SIDE}
    if modality == "image":
        return cast(
            Preprocessor,
            CLIPImageProcessor(
                size={"shortest_edge": SIDE}, crop_size=sides, image_mean=_GREY, image_std=_GREY
            ),
        )
    if modality == "audio":
        return cast(
            Preprocessor,
            WhisperFeatureExtractor(
                feature_size=NUM_MEL_BINS,
                sampling_rate=WHISPER_RATE_HZ,
                chunk_length=1,
                n_fft=WINDOW,
            ),
        )
    # The plainest of transformers' video processors: resize, rescale, normalise. A longer clip
    # gives as many frames as the zoo's own, evenly chosen.
    video = LlavaOnevisionVideoProcessor(
        size=sides,
        image_mean=_GREY,
        image_std=_GREY,
        do_sample_frames=True,
        num_frames=NUM_FRAMES,
    )
    return cast(Preprocessor, video)


def write_preprocessor(modality: str, folder: Path) -> None:
    """Write the preprocessor's configuration as `folder`/preprocessor_config.json.

    One name for every modality: transformers' own name for a video processor's is another, but it
    reads this one too.
    """
    (written,) = make_preprocessor(modality).save_pretrained(folder)
    target = folder / PREPROCESSOR_NAME
    if Path(written) != target:
        shutil.move(written, target)
    content = json.loads(target.read_text())
    target.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


def preprocess(modality: str, raw: Sequence[Raw]) -> torch.Tensor:
    """Preprocessed media `[N, ...]`, fp32, of N decoded ones, exactly as a processor makes them.

    Args:
        modality: image, audio or video.
        raw: pictures, sounds at 8 kHz or clips, as `omnicompose.zoo.media.decode` gives them.
    """
    preprocessor = cast("_Callable", make_preprocessor(modality))
    if modality == "image":
        return preprocessor(list(raw), return_tensors="pt")["pixel_values"]
    if modality == "video":
        return preprocessor(list(raw), return_tensors="pt")["pixel_values_videos"]
    waveforms = [_at_whispers_rate(sound) for sound in raw]
    sounds = preprocessor(waveforms, sampling_rate=WHISPER_RATE_HZ, return_tensors="pt")
    return sounds["input_features"]


def labels_of(items: Sequence[Item]) -> dict[str, torch.Tensor]:
    """Per slot of the items' one modality the index of each item's word, `[N]`."""
    slots = MODALITY_SLOTS[items[0].modality]
    return {slot: torch.tensor([item[slot] for item in items]) for slot in slots}


def _at_whispers_rate(sound: Raw) -> np.ndarray:
    import soxr

    waveform = sound.astype(np.float32) / 32768
    resampled: np.ndarray = soxr.resample(waveform, SAMPLE_RATE_HZ, WHISPER_RATE_HZ, quality="HQ")
    return resampled


class _Callable(Protocol):
    def __call__(
        self, media: list[Raw] | list[np.ndarray], **options: str | int
    ) -> dict[str, torch.Tensor]: ...
