"""Media made of media: the sound of a clip, and media of the same size with nothing in them.

Made once into the results folder, named by the digest of what they were made of, so that a second
run and another worker find them.
"""

import os
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import soundfile
from PIL import Image

from omnicompose.errors import MediaError
from omnicompose.evaluation.sample import Medium, open_medium

GREY = 128
CLIPS = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".flv")
Write = Callable[[Path, Path], None]
"""Takes a source and the path to write."""


def opened(medium: Medium, media_dir: Path) -> Medium:
    """The medium with its digest; of a clip given as audio, its sound as a file of its own.

    A file that cannot be read keeps its name: the question that shows it becomes an error.
    """
    if medium.sha256:
        return medium
    found = open_medium(medium.modality, medium.path)
    if medium.modality != "audio" or medium.path.suffix.lower() not in CLIPS:
        return found
    if not medium.path.is_file():
        return found
    return _made(found, "sound", ".wav", _write_sound, media_dir)


def blank(medium: Medium, media_dir: Path) -> Medium:
    """A medium as large or as long as this one: grey, silent, or every point at zero."""
    if not medium.path.is_file():
        return medium
    suffix, write = BLANKS[medium.modality]
    return _made(medium, "blank", suffix, write, media_dir)


def _made(medium: Medium, kind: str, suffix: str, write: Write, folder: Path) -> Medium:
    path = folder / f"{kind}-{medium.modality}-{medium.sha256[:16]}{suffix}"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{os.getpid()}-{path.name}")
        try:
            write(medium.path, partial)
        except (av.FFmpegError, OSError, ValueError, soundfile.LibsndfileError, MediaError):
            partial.unlink(missing_ok=True)
            return medium  # the question that shows it becomes an error that names this file
        partial.replace(path)
    return open_medium(medium.modality, path)


def _samples(path: Path) -> tuple[np.ndarray[tuple[int], np.dtype[np.float32]], int]:
    """Mono samples `[n]` in [-1, 1] and their rate, of a sound or of a clip's first sound track."""
    with av.open(path) as container:
        if not container.streams.audio:
            raise MediaError(f"{path}: found no sound track, expected one. Give another file.")
        stream = container.streams.audio[0]
        resampler = av.AudioResampler(format="flt", layout="mono", rate=stream.rate)
        frames = [f for raw in container.decode(stream) for f in resampler.resample(raw)]
        frames += resampler.resample(None)
        return np.concatenate([f.to_ndarray()[0] for f in frames]), int(stream.rate)


def _write_sound(source: Path, target: Path) -> None:
    samples, rate = _samples(source)
    soundfile.write(target, samples, rate, format="WAV", subtype="PCM_16")


def _write_silence(source: Path, target: Path) -> None:
    samples, rate = _samples(source)
    soundfile.write(target, np.zeros_like(samples), rate, format="WAV", subtype="PCM_16")


def _write_grey(source: Path, target: Path) -> None:
    with Image.open(source) as picture:
        Image.new("RGB", picture.size, (GREY, GREY, GREY)).save(target, "PNG")


def _write_grey_clip(source: Path, target: Path) -> None:
    with av.open(source) as clip, av.open(target, "w", format="mp4") as container:
        stream = clip.streams.video[0]
        track = container.add_stream(
            "libx264", rate=stream.average_rate, options={"qp": "0", "threads": "1"}
        )
        track.width, track.height, track.pix_fmt = stream.width, stream.height, "yuv420p"
        frame = av.VideoFrame.from_ndarray(
            np.full((stream.height, stream.width, 3), GREY, np.uint8), format="rgb24"
        )
        for number, _ in enumerate(clip.decode(stream)):
            frame.pts = number
            container.mux(track.encode(frame))
        container.mux(track.encode(None))


def _write_no_points(source: Path, target: Path) -> None:
    points = np.load(source, allow_pickle=False)
    with target.open("wb") as file:
        np.save(file, np.zeros_like(points))


BLANKS: dict[str, tuple[str, Write]] = {
    "image": (".png", _write_grey),
    "audio": (".wav", _write_silence),
    "video": (".mp4", _write_grey_clip),
    "point": (".npy", _write_no_points),
}
