"""Look at a picture, sound or clip before any model is loaded: is it what it is given as?"""

from collections.abc import Callable
from pathlib import Path

import av
import soundfile
from PIL import Image, UnidentifiedImageError

from omnicompose.errors import MediaError
from omnicompose.media_limits import Extent, check_extent, open_container

WORDS = {"image": "a picture", "audio": "a sound", "video": "a clip"}


def check_media(path: Path, modality: str, extent: Extent = Extent()) -> None:  # noqa: B008
    """Open a file as its modality and read its first picture, samples or frame.

    Args:
        path: the file.
        modality: `image`, `audio` or `video`; of others only the file's existence is checked.
        extent: how much it may hold.

    Raises:
        MediaError: there is no such file, it is something else, or holds nothing, or too much.
    """
    if not path.is_file():
        raise MediaError(f"{path}: there is no such file. Correct the path of the {modality}.")
    check_extent(path, modality, extent)
    if modality not in CHECKS or CHECKS[modality](path):
        return
    others = [WORDS[name] for name, holds in CHECKS.items() if name != modality and holds(path)]
    found = " and ".join(others) or _unreadable(path)
    raise MediaError(
        f"{path}: given as {modality}, but found {found}. "
        f"Expected {WORDS[modality]} that holds something."
    )


def _unreadable(path: Path) -> str:
    return "an empty file" if path.stat().st_size == 0 else "nothing that can be seen or heard"


def _holds_picture(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            image.load()
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return False
    return True


def _holds_samples(path: Path) -> bool:
    try:
        return bool(soundfile.info(path).frames > 0)
    except (soundfile.LibsndfileError, OSError):
        return _has_frame(path, "audio")


def _holds_frames(path: Path) -> bool:
    return not _is_still(path) and _has_frame(path, "video")


def _is_still(path: Path) -> bool:
    """A still picture, which decoders of clips would take for a clip of one frame."""
    try:
        with Image.open(path) as image:
            return getattr(image, "n_frames", 1) == 1
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return False


def _has_frame(path: Path, kind: str) -> bool:
    try:
        with open_container(path) as container:
            streams = [stream for stream in container.streams if stream.type == kind]
            return bool(streams) and any(True for _ in container.decode(streams[0]))
    except (av.FFmpegError, OSError, ValueError):
        return False


CHECKS: dict[str, Callable[[Path], bool]] = {
    "image": _holds_picture,
    "audio": _holds_samples,
    "video": _holds_frames,
}
