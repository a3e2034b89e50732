"""Files are looked at before any model is loaded."""

from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from PIL import Image

from omnicompose.errors import MediaError
from omnicompose.media import check_media


def picture(folder: Path, name: str = "picture.png") -> Path:
    Image.new("RGB", (8, 8), "red").save(folder / name)
    return folder / name


def sound(folder: Path, num_samples: int = 800) -> Path:
    path = folder / "sound.wav"
    soundfile.write(path, np.zeros(num_samples, dtype=np.float32), 8000)
    return path


def clip(folder: Path, num_frames: int = 3) -> Path:
    path = folder / "clip.mp4"
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=6, options={"threads": "1"})
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for _ in range(num_frames):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_good_files_pass(tmp_path: Path) -> None:
    check_media(picture(tmp_path), "image")
    check_media(sound(tmp_path), "audio")
    check_media(clip(tmp_path), "video")
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    check_media(tmp_path / "moving.gif", "video")


def refused(path: Path, modality: str) -> str:
    with pytest.raises(MediaError) as caught:
        check_media(path, modality)
    return str(caught.value).removeprefix(f"{path}: ")


def test_a_missing_file(tmp_path: Path) -> None:
    assert refused(tmp_path / "none.png", "image") == (
        "there is no such file. Correct the path of the image."
    )


@pytest.mark.parametrize(
    ("make", "modality", "found", "expected"),
    [
        (picture, "audio", "a picture", "a sound"),
        (picture, "video", "a picture", "a clip"),
        (sound, "image", "a sound", "a picture"),
        (sound, "video", "a sound", "a clip"),
        (clip, "image", "a clip", "a picture"),
        (clip, "audio", "a clip", "a sound"),
    ],
)
def test_another_modality(tmp_path: Path, make: object, modality: str, found: str, expected: str):
    assert callable(make)
    assert refused(make(tmp_path), modality) == (
        f"given as {modality}, but found {found}. Expected {expected} that holds something."
    )


def test_zero_length_audio(tmp_path: Path) -> None:
    assert refused(sound(tmp_path, num_samples=0), "audio") == (
        "given as audio, but found nothing that can be seen or heard. "
        "Expected a sound that holds something."
    )


@pytest.mark.parametrize("modality", ["image", "audio", "video"])
def test_an_empty_file_and_a_broken_one(tmp_path: Path, modality: str) -> None:
    path = tmp_path / "file.mp4"
    path.touch()
    assert f"given as {modality}, but found an empty file." in refused(path, modality)
    path.write_bytes(clip(tmp_path, num_frames=1).read_bytes()[:60] if path.touch() else b"text")
    assert "found nothing that can be seen or heard" in refused(path, modality)


def test_a_video_without_frames(tmp_path: Path) -> None:
    path = clip(tmp_path)
    path.write_bytes(path.read_bytes()[:48])
    assert "given as video, but found nothing that can be seen or heard" in refused(path, "video")


def test_a_truncated_picture(tmp_path: Path) -> None:
    path = picture(tmp_path)
    path.write_bytes(path.read_bytes()[:40])
    assert "given as image, but found nothing that can be seen" in refused(path, "image")
