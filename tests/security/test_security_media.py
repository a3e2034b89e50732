"""Attacks through media: small files that grow, files that lie, files that open other files."""

import struct
import wave
import zlib
from pathlib import Path

import av
import numpy as np
import pytest

from omnicompose.errors import MediaError
from omnicompose.media import check_media
from omnicompose.media_limits import Extent, check_extent, open_container
from omnicompose.modeling.media_inputs import Reading, read_medium

SMALL = Extent(pixels=10_000, samples=50_000, frames=10, clip_pixels=50_000)


def png(path: Path, width: int, height: int) -> Path:
    """A picture of one colour whose header says any size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" * min((width // 8 + 2) * height, 50_000_000))
    body = chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


def clip(path: Path, side: int, frames: int) -> Path:
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width = stream.height = side
        stream.pix_fmt = "yuv420p"
        for _ in range(frames):
            frame = av.VideoFrame.from_ndarray(np.zeros((side, side, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("side", [12_000, 30_000, 2_000_000_000])
def test_a_picture_that_would_fill_the_memory(tmp_path: Path, side: int) -> None:
    bomb = png(tmp_path / "bomb.png", side, side)
    assert bomb.stat().st_size < 1 << 20
    with pytest.raises(MediaError, match=r"Give a smaller picture|pixels, expected|nothing that"):
        check_media(bomb, "image")


def test_a_sound_that_promises_a_year(tmp_path: Path) -> None:
    """A WAV header that names 2 GB of samples, and a file without them."""
    path = tmp_path / "bomb.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(b"\0\0" * 100)
    data = bytearray(path.read_bytes())
    data[4:8] = struct.pack("<I", 0xFFFFFFF0)
    data[40:44] = struct.pack("<I", 0xFFFFFF00)
    path.write_bytes(data)
    sound = read_medium("audio", path, Reading(sample_rate_hz=8000))
    assert len(sound) == 100


def test_sounds_and_clips_beyond_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(b"\0\0" * 60_000)
    with pytest.raises(MediaError, match=r"found 60,000 samples, expected at most 50,000"):
        check_media(path, "audio", SMALL)
    long = clip(tmp_path / "long.mp4", 32, 20)
    with pytest.raises(MediaError, match="found 20 frames, expected at most 10"):
        check_media(long, "video", SMALL)
    with pytest.raises(MediaError, match="found 20,480 clip pixels"):
        check_media(long, "video", Extent(clip_pixels=20_000))
    wide = clip(tmp_path / "wide.mp4", 128, 2)
    with pytest.raises(MediaError, match="found 16,384 pixels"):
        check_media(wide, "video", SMALL)
    check_media(wide, "video")


M3U8 = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9.0,\nfile://{secret}\n#EXT-X-ENDLIST\n"
PLAYLISTS = {
    "list.m3u8": M3U8,
    "list.wav": M3U8,
    "list.ffconcat": "ffconcat version 1.0\nfile '{secret}'\n",
    "list.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nt=0 0\nm=audio 9 RTP/AVP 0\n",
    "list.mpd": "<MPD><Period><BaseURL>file://{secret}</BaseURL></Period></MPD>",
}


@pytest.mark.parametrize("name", PLAYLISTS)
@pytest.mark.parametrize("modality", ["audio", "video"])
def test_a_playlist_opens_no_other_file(tmp_path: Path, name: str, modality: str) -> None:
    secret = clip(tmp_path / "secret.mp4", 16, 2)
    path = tmp_path / name
    path.write_text(PLAYLISTS[name].format(secret=secret))
    with pytest.raises(MediaError):
        check_media(path, modality)
    with pytest.raises((av.FFmpegError, ValueError)), open_container(path):
        pass


def test_point_clouds_are_not_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "cloud.npy"
    np.save(path, np.array([print], dtype=object), allow_pickle=True)
    with pytest.raises(MediaError, match="allow_pickle=False"):
        read_medium("point", path, Reading(sample_rate_hz=0))


@pytest.mark.parametrize("modality", ["image", "audio", "video"])
def test_garbage_is_left_to_those_who_read(tmp_path: Path, modality: str) -> None:
    path = tmp_path / "garbage"
    path.write_bytes(bytes(range(256)) * 20)
    check_extent(path, modality, SMALL)
    with pytest.raises(MediaError, match="nothing that can be seen or heard"):
        check_media(path, modality)
