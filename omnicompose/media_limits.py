"""How large a medium may be once it is decoded: a small file can hold a picture of a terabyte.

Everything here is read from headers and packets; nothing is decoded.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import av
import soundfile
from av.container import InputContainer
from PIL import Image

from omnicompose.errors import MediaError

DEMUXERS = (
    "aac,aiff,amr,asf,au,avi,caf,flac,flv,gif,matroska,webm,mov,mp4,mp3,mpeg,mpegts,ogg,w64,wav"
)
"""Containers that hold what they play. Playlists are not among them: these open other files."""
USUAL_FRAME = 2048
"""Samples in a packet of compressed sound whose decoder does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """What one medium may hold.

    Attributes:
        pixels: of a picture, or of one frame of a clip.
        samples: of a sound, all channels together.
        frames: of a clip.
        clip_pixels: of a clip, all frames together.
    """

    pixels: int = 89_000_000
    samples: int = 4 * 3600 * 48_000
    frames: int = 200_000
    clip_pixels: int = 500_000_000_000


def open_container(path: Path) -> InputContainer:
    """A container of sound or pictures; a playlist that names other files is not opened.

    Raises:
        av.FFmpegError: it is none, or another kind.
    """
    options = {"format_whitelist": DEMUXERS, "protocol_whitelist": "file"}
    container: InputContainer = av.open(str(path), options=options)
    return container


def check_extent(path: Path, modality: str, extent: Extent) -> None:
    """Refuse a medium that would be too large in memory, before anything of it is decoded.

    What cannot be read is left to those who read it.

    Raises:
        MediaError: it holds more than `extent` allows.
    """
    try:
        found = COUNTS[modality](path) if modality in COUNTS else {}
    except (OSError, ValueError, SyntaxError, soundfile.LibsndfileError, av.FFmpegError):
        return
    except Image.DecompressionBombError as error:
        raise MediaError(f"{path}: {error} Give a smaller picture.") from error
    for name, count in found.items():
        allowed = getattr(extent, name)
        if count > allowed:
            raise MediaError(
                f"{path}: found {count:,} {name.replace('_', ' ')}, expected at most {allowed:,}. "
                f"Give a smaller {modality}."
            )


def _picture(path: Path) -> dict[str, int]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        image = Image.open(path)
    with image:
        return {"pixels": image.width * image.height}


def _sound(path: Path) -> dict[str, int]:
    try:
        about = soundfile.info(path)
    except soundfile.LibsndfileError:  # then FFmpeg reads it, or nobody
        return _sound_in_container(path)
    return {"samples": about.frames * about.channels}


def _sound_in_container(path: Path) -> dict[str, int]:
    with open_container(path) as container:
        stream = container.streams.audio[0] if container.streams.audio else None
        if stream is None:
            return {}
        packets = sum(1 for packet in container.demux(stream) if packet.size)
        per_packet = stream.codec_context.frame_size or USUAL_FRAME
        return {"samples": packets * per_packet * max(stream.channels, 1)}


def _clip(path: Path) -> dict[str, int]:
    with open_container(path) as container:
        if not container.streams.video:
            return {}
        stream = container.streams.video[0]
        pixels = stream.codec_context.width * stream.codec_context.height
        packets = sum(1 for packet in container.demux(stream) if packet.size)
        frames = max(packets, stream.frames)  # what the header promises is believed later
        return {"pixels": pixels, "frames": frames, "clip_pixels": pixels * frames}


COUNTS: dict[str, Callable[[Path], dict[str, int]]] = {
    "image": _picture,
    "audio": _sound,
    "video": _clip,
}
