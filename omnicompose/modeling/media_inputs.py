"""What users hand to a processor as media: files to be read, arrays, or lists of either."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import av
import numpy as np
import soundfile
import soxr
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torchaudio.functional import resample
from transformers.video_utils import VideoMetadata

from omnicompose.errors import MediaError
from omnicompose.media import check_media
from omnicompose.media_limits import open_container

Array = NDArray[np.generic]
Medium = str | Path | Image.Image | Array | torch.Tensor | Sequence[object]
"""A path, a picture, samples, frames or points; a clip may be a list of pictures."""

# Dimensions of one medium in memory: [H, W, C], samples, [F, H, W, C], [P, C].
NUM_DIMENSIONS = {"image": 3, "audio": 1, "video": 4, "point": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How files are read.

    Attributes:
        sample_rate_hz: what sounds are resampled to.
        resampler: `soxr`, or `sinc` as in torchaudio: encoders hear the difference.
        choose_frames: indices of the frames to keep, from a clip's metadata; None keeps all.
    """

    sample_rate_hz: int
    resampler: Literal["soxr", "sinc"] = "soxr"
    choose_frames: Callable[[VideoMetadata], Sequence[int]] | None = None


def flatten_media(modality: str, given: object) -> list[Medium]:
    """The media of one modality in reading order, from one of them or any nesting of lists."""
    if given is None:
        return []
    if isinstance(given, np.ndarray | torch.Tensor) and given.ndim > NUM_DIMENSIONS[modality]:
        return [medium for part in given for medium in flatten_media(modality, part)]
    if not isinstance(given, list | tuple) or _is_one(modality, given):
        return [given]  # type: ignore[list-item]  # told apart when it is read
    return [medium for part in given for medium in flatten_media(modality, part)]


def _is_one(modality: str, given: Sequence[object]) -> bool:
    """Whether a list is itself one medium: samples, or the frames of a clip."""
    if modality == "video":
        frames = [isinstance(x, Image.Image) or getattr(x, "ndim", 0) == 3 for x in given]
        return bool(given) and all(frames)
    return modality == "audio" and bool(given) and isinstance(given[0], int | float)


def read_medium(modality: str, medium: Medium, reading: Reading) -> Medium:
    """A medium in memory: read if it is a file, looked at in any case.

    Returns:
        An RGB picture, mono samples `[S]` fp32, frames `[F, H, W, 3]` uint8 or points `[P, C]`;
        what came as an array or a picture comes back as it was.

    Raises:
        MediaError: no such file, another kind of file, or nothing in it.
    """
    if isinstance(medium, str | Path):
        medium = _read_file(modality, medium, reading)
    if isinstance(medium, Image.Image):
        return medium
    if isinstance(medium, list | tuple):
        medium = _from_list(modality, medium)
    if math.prod(np.shape(cast(Array, medium))) == 0:
        raise MediaError(f"{modality} given in memory: found nothing in it. Give one with content.")
    return medium


def _from_list(modality: str, parts: Sequence[object]) -> Array:
    """Samples, or frames given as pictures or arrays, as one array."""
    if modality == "audio":
        return np.asarray(parts, dtype=np.float32)
    frames = [part.convert("RGB") if isinstance(part, Image.Image) else part for part in parts]
    return np.stack([np.asarray(frame) for frame in frames])


def _read_file(modality: str, name: str | Path, reading: Reading) -> Medium:
    if str(name).startswith(("http://", "https://", "data:")):
        raise MediaError(
            f"{str(name)[:80]}: found an address, expected a file on this machine. "
            "Download it first."
        )
    path = Path(name)
    if modality != "point":
        check_media(path, modality)
    try:
        return READERS[modality](path, reading)
    except (OSError, ValueError, EOFError, soundfile.LibsndfileError, av.FFmpegError) as error:
        raise MediaError(
            f"{path}: given as {modality}, but reading it failed ({error}). Give a whole file."
        ) from error


def _read_picture(path: Path, _: Reading) -> Image.Image:
    with Image.open(path) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


def _read_sound(path: Path, reading: Reading) -> Array:
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError:
        samples, rate = _decode_sound(path)
    mono: Array = samples.mean(axis=1)
    if rate == reading.sample_rate_hz:
        return mono
    return RESAMPLERS[reading.resampler](mono, rate, reading.sample_rate_hz)


def _resample_by_soxr(mono: Array, rate: int, wanted: int) -> Array:
    resampled: Array = soxr.resample(mono, rate, wanted, quality="HQ")
    return resampled


def _resample_by_sinc(mono: Array, rate: int, wanted: int) -> Array:
    resampled: Array = resample(torch.from_numpy(mono), rate, wanted).numpy()
    return resampled


RESAMPLERS: dict[str, Callable[[Array, int, int], Array]] = {
    "soxr": _resample_by_soxr,
    "sinc": _resample_by_sinc,
}


def _decode_sound(path: Path) -> tuple[Array, int]:
    """Samples `[S, channels]` fp32 of what only FFmpeg reads, the sound of a clip among it."""
    with open_container(path) as container:
        stream = container.streams.audio[0]
        to_float = av.AudioResampler(format="fltp")
        parts = [part for frame in container.decode(stream) for part in to_float.resample(frame)]
        parts += to_float.resample(None)
        samples = np.concatenate([part.to_ndarray() for part in parts], axis=1).T
        return samples, stream.rate


def _read_clip(path: Path, reading: Reading) -> Array:
    with open_container(path) as container:
        stream = container.streams.video[0]
        # Containers often do not say how many frames they hold; packets are counted undecoded.
        count = stream.frames or sum(1 for packet in container.demux(stream) if packet.size)
        rate = float(stream.average_rate or 0) or None
    frames, num_decoded = _decode_frames(path, _chosen(count, rate, reading))
    if frames is None:  # The container promised more frames than there are.
        frames, _ = _decode_frames(path, _chosen(num_decoded, rate, reading))
    if frames is None:
        raise ValueError("no frame could be decoded")
    return frames


def _chosen(count: int, frames_per_s: float | None, reading: Reading) -> list[int]:
    if reading.choose_frames is None:
        return list(range(count))
    duration = None if frames_per_s is None else count / frames_per_s
    metadata = VideoMetadata(total_num_frames=count, fps=frames_per_s, duration=duration)
    return [int(place) for place in reading.choose_frames(metadata)]


def _decode_frames(path: Path, chosen: Sequence[int]) -> tuple[Array | None, int]:
    """The chosen frames, None if one of them does not exist, and how many frames there are."""
    kept, wanted, count = {}, set(chosen), 0
    with open_container(path) as container:
        for place, frame in enumerate(container.decode(video=0)):
            count = place + 1
            if place in wanted:
                kept[place] = frame.to_ndarray(format="rgb24")
    whole = bool(wanted) and wanted <= set(kept)
    return (np.stack([kept[place] for place in chosen]) if whole else None), count


def _read_points(path: Path, _: Reading) -> Array:
    points: Array = np.load(path, allow_pickle=False)
    return points


READERS: dict[str, Callable[[Path, Reading], Medium]] = {
    "image": _read_picture,
    "audio": _read_sound,
    "video": _read_clip,
    "point": _read_points,
}
