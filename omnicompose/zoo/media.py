"""The zoo's media as files (PNG, FLAC, MP4), and the library of held-out media that ships.

Nothing here needs the packages that drew or spoke the media, only those that decode them.
"""

import io
import json
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from omnicompose.errors import MediaError
from omnicompose.zoo.world import Item, make_item

Raw = npt.NDArray[np.uint8] | npt.NDArray[np.int16]
"""A picture `[H, W, 3]` or a clip `[F, H, W, 3]` in RGB, or a sound `[n]`."""

LIBRARY_PATH = Path(__file__).parent / "assets" / "media" / "held-out.zip"
INDEX_NAME = "index.json"
SUFFIXES = {"image": ".png", "audio": ".flac", "video": ".mp4"}
SAMPLE_RATE_HZ = 8000
FRAMES_PER_S = 6

# One thread: x264 writes other bytes with more. 4:2:0 is what every browser plays.
_H264_OPTIONS = {"preset": "veryfast", "tune": "zerolatency", "qp": "22", "threads": "1"}
_OLDEST_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Medium:
    """One encoded medium and what it shows.

    Attributes:
        item: what it shows.
        cluster: what it shares with other media: a handwriting sample or a voice. Scores of media
            of one cluster are not independent.
        name: unique in its library, with the suffix of its format (`image/0007.png`).
        data: the file's bytes.
    """

    item: Item
    cluster: str
    name: str
    data: bytes

    def write(self, folder: Path) -> Path:
        """Write the file below `folder`, once, and return its path."""
        path = folder / self.name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.data)
        return path


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaLibrary:
    """Media to be found by the item they show.

    Attributes:
        media: all of them, in the order in which they were packed.
        by_item: the same, by what they show.
    """

    media: tuple[Medium, ...]
    by_item: dict[Item, tuple[Medium, ...]]

    @classmethod
    def of(cls, media: Iterable[Medium]) -> Self:
        """A library of the given media."""
        kept, by_item = tuple(media), dict[Item, list[Medium]]()
        for medium in kept:
            by_item.setdefault(medium.item, []).append(medium)
        return cls(media=kept, by_item={item: tuple(found) for item, found in by_item.items()})

    @classmethod
    def read(cls, path: Path = LIBRARY_PATH) -> Self:
        """The library packed at `path`: by default the held-out media that ship.

        Raises:
            MediaError: the file is missing or is not a packed library.
        """
        try:
            with zipfile.ZipFile(path) as archive:
                index = json.loads(archive.read(INDEX_NAME))
                return cls.of(_read_medium(archive, entry) for entry in index)
        except (OSError, zipfile.BadZipFile, ValueError, KeyError) as error:
            raise MediaError(
                f"{path}: not a packed media library ({type(error).__name__}: {error}). Expected a "
                f"zip with {INDEX_NAME}. Reinstall the package or run omnicompose.zoo.train."
            ) from error

    def write(self, path: Path) -> None:
        """Pack the library into one file; the same media give the same bytes."""
        index = [
            {
                "name": medium.name,
                "modality": medium.item.modality,
                "values": dict(medium.item.values),
                "cluster": medium.cluster,
            }
            for medium in self.media
        ]
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            _add(archive, INDEX_NAME, json.dumps(index, separators=(",", ":")).encode())
            for medium in self.media:
                _add(archive, medium.name, medium.data)

    def items(self, modality: str) -> tuple[Item, ...]:
        """The different items of a modality that can be shown."""
        return tuple(item for item in self.by_item if item.modality == modality)

    def choose(self, item: Item, rng: np.random.Generator) -> Medium:
        """One of the media that show `item`, at random.

        Raises:
            MediaError: none shows it.
        """
        found = self.by_item.get(item, ())
        if not found:
            raise MediaError(
                f"the media library shows no {item}; it holds {len(self.items(item.modality))} "
                f"different {item.modality} items. Ask for one of `items({item.modality!r})`."
            )
        return found[int(rng.integers(len(found)))]


@cache
def held_out_media() -> MediaLibrary:
    """The held-out media that ship with the package, read once."""
    return MediaLibrary.read()


def encode(modality: str, raw: Raw) -> bytes:
    """A picture as PNG, a sound as FLAC or a clip as H.264 in MP4. Clips lose a little."""
    return {"image": _encode_picture, "audio": _encode_sound, "video": _encode_clip}[modality](raw)


def decode(modality: str, data: bytes) -> Raw:
    """The raw medium that a file of `encode` holds, as transformers' loaders decode it."""
    return {"image": _decode_picture, "audio": _decode_sound, "video": _decode_clip}[modality](data)


def _encode_picture(pixels: Raw) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _decode_picture(data: bytes) -> Raw:
    from PIL import Image

    with Image.open(io.BytesIO(data)) as picture:
        return np.array(picture.convert("RGB"))


def _encode_sound(samples: Raw) -> bytes:
    import soundfile

    stream = io.BytesIO()
    soundfile.write(stream, samples, SAMPLE_RATE_HZ, format="FLAC", subtype="PCM_16")
    return stream.getvalue()


def _decode_sound(data: bytes) -> Raw:
    import soundfile

    samples: npt.NDArray[np.int16] = soundfile.read(io.BytesIO(data), dtype="int16")[0]
    return samples


def _encode_clip(frames: Raw) -> bytes:
    import av

    stream = io.BytesIO()
    with av.open(stream, "w", format="mp4") as container:
        track = container.add_stream("libx264", rate=Fraction(FRAMES_PER_S), options=_H264_OPTIONS)
        track.height, track.width = frames.shape[1:3]
        track.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(track.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(track.encode(None))
    return stream.getvalue()


def _decode_clip(data: bytes) -> Raw:
    import av

    with av.open(io.BytesIO(data)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return np.stack(frames)


def _read_medium(archive: zipfile.ZipFile, entry: dict[str, object]) -> Medium:
    name, values = str(entry["name"]), entry["values"]
    assert isinstance(values, dict)
    return Medium(
        item=make_item(str(entry["modality"]), **values),
        cluster=str(entry["cluster"]),
        name=name,
        data=archive.read(name),
    )


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name, _OLDEST_DATE), data)


def write_samples(folder: Path) -> tuple[Path, ...]:
    """Write a picture, a sound and a clip of the held-out media below `folder`, to try things on.

    Returns:
        `picture.png`, `sound.flac` and `clip.mp4`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    media = held_out_media().media
    paths = []
    for modality, name in (("image", "picture"), ("audio", "sound"), ("video", "clip")):
        medium = next(one for one in media if one.item.modality == modality)
        paths.append(folder / f"{name}{SUFFIXES[modality]}")
        paths[-1].write_bytes(medium.data)
    return tuple(paths)
