"""Media files: read as what they are, refused where they are something else."""

import av
import numpy as np
import pytest
import soundfile
import torch
from tiny_composite import clip, picture, sound

from omnicompose.errors import MediaError

OPTIONS = {"tokenize": True, "return_dict": True, "return_tensors": "pt"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("media")
    picture(1).save(folder / "picture.png")
    soundfile.write(folder / "sound.wav", sound(2), 16000, subtype="FLOAT")
    stereo = np.stack([sound(2), sound(3)], axis=1)
    soundfile.write(folder / "stereo.flac", stereo * 0.1, 8000)
    soundfile.write(folder / "empty.wav", np.zeros(0, np.float32), 16000)
    write_clip(folder / "clip.mp4", clip(3, 12).repeat(4, 1).repeat(4, 2))
    (folder / "words.mp4").write_text("no clip at all")
    (folder / "nothing.png").write_bytes(b"")
    (folder / "half.png").write_bytes((folder / "picture.png").read_bytes()[:80])
    return folder


def write_clip(path, frames) -> None:
    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", rate=4)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
        # Sound beside the pictures.
        # A second stream would need interleaving; a clip with sound has its own test below.


def write_sound_as_aac(path) -> None:
    with av.open(path, "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        samples = (np.sin(np.arange(16000) / 20) * 0.5).astype(np.float32)[None]
        for start in range(0, 16000, 1024):
            part = np.ascontiguousarray(samples[:, start : start + 1024])
            frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16000, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def test_files_give_what_arrays_give(processor, folder):
    content = [
        {"type": "image", "path": str(folder / "picture.png")},
        {"type": "audio", "path": str(folder / "sound.wav")},
        {"type": "video", "url": str(folder / "clip.mp4")},
        {"type": "text", "text": "what"},
    ]
    found = processor.apply_chat_template([{"role": "user", "content": content}], **OPTIONS)
    expected = processor(text="<image><audio>", images=picture(1), audio=sound(2))
    assert torch.equal(found["pixel_values"], expected["pixel_values"])
    assert torch.equal(found["input_features"], expected["input_features"])
    assert found["pixel_values_videos"].shape == (1, 3, 3, 8, 8)


def test_chosen_frames_are_the_same_decoded_or_picked(processor, folder):
    with av.open(folder / "clip.mp4") as container:
        frames = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
    assert len(frames) == 12
    for options in ({}, {"num_frames": 5}, {"do_sample_frames": False}, {"fps": 2}):
        if "fps" not in options:
            expected = processor(text="<video>", videos=frames, **options)
            found = processor(text="<video>", videos=folder / "clip.mp4", **options)
            assert torch.equal(found["pixel_values_videos"], expected["pixel_values_videos"])


def test_sounds_are_mixed_down_and_resampled(processor, folder):
    import soxr

    stereo, rate = soundfile.read(folder / "stereo.flac", dtype="float32")
    mono = soxr.resample(stereo.mean(axis=1), rate, 16000, quality="HQ")
    expected = processor(text="<audio>", audio=mono)["input_features"]
    found = processor(text="<audio>", audio=folder / "stereo.flac")["input_features"]
    assert torch.equal(found, expected)


def test_sound_that_only_ffmpeg_reads(processor, folder):
    write_sound_as_aac(folder / "sound.m4a")
    found = processor(text="<audio>", audio=folder / "sound.m4a")["input_features"]
    wave = np.sin(np.arange(16000) / 20).astype(np.float32) * 0.5
    expected = processor(text="<audio>", audio=wave)["input_features"]
    assert (found - expected).abs().median() < 0.1


@pytest.mark.parametrize(
    ("modality", "name", "message"),
    [
        ("image", "sound.wav", "given as image, but found a sound"),
        ("audio", "picture.png", "given as audio, but found a picture"),
        ("video", "words.mp4", "given as video, but found nothing that can be seen or heard"),
        ("video", "picture.png", "given as video, but found a picture"),
        ("video", "sound.wav", "given as video, but found a sound"),
        ("audio", "empty.wav", "given as audio, but found"),
        ("image", "nothing.png", "given as image, but found an empty file"),
        ("image", "half.png", "given as image, but"),
        ("image", "none.png", "there is no such file"),
    ],
)
def test_a_file_that_is_not_what_its_modality_says(processor, folder, modality, name, message):
    item = {"type": modality, "path": str(folder / name)}
    turns = [{"role": "user", "content": [item, {"type": "text", "text": "what"}]}]
    with pytest.raises(MediaError, match=f"{name}: {message}"):
        processor.apply_chat_template(turns, **OPTIONS)


def test_addresses_and_empty_arrays(processor):
    with pytest.raises(MediaError, match="found an address, expected a file on this machine"):
        processor(text="<image>", images="https://example.invalid/picture.png")
    with pytest.raises(MediaError, match="audio given in memory: found nothing in it"):
        processor(text="<audio>", audio=np.zeros(0, np.float32))
    with pytest.raises(MediaError, match="video given in memory: found nothing in it"):
        processor(text="<video>", videos=np.zeros((0, 8, 8, 3), np.uint8))
