"""Preprocessing against the published implementation's, from raw media (tests/goldens/parity)."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import (
    ASTFeatureExtractor,
    AutoFeatureExtractor,
    AutoImageProcessor,
    AutoVideoProcessor,
    Wav2Vec2FeatureExtractor,
)
from transformers.video_utils import VideoMetadata

from omnicompose.errors import MediaError
from omnicompose.experts import modelcompose_profile as profile
from omnicompose.modeling import KaldiFbankFeatureExtractor, LanguageBindVideoProcessor
from omnicompose.modeling.preprocessors import Preprocessors

GOLDENS = Path(__file__).parents[1] / "goldens"
MEDIA = GOLDENS / "e2e" / "media"


def golden(name):
    return load_file(GOLDENS / "parity" / f"{name}.safetensors")


def tensors(modality, media, part=None, **options):
    parts = dict.fromkeys(("image", "audio", "video")) | {modality: part}
    parts.pop("point", None)
    return Preprocessors(**parts).tensors(modality, media, options)


def read(folder, config, reader):
    """A preprocessor as a composite's folder gives it."""
    (folder / "preprocessor_config.json").write_text(json.dumps(config))
    return reader.from_pretrained(folder)


@pytest.mark.parametrize("pad", [True, False])
@pytest.mark.parametrize("name", ["img_50x36", "img_31x50"])
def test_pictures_are_padded_and_made_small(tmp_path, name, pad) -> None:
    part = read(tmp_path, profile.image(28, pad=pad), AutoImageProcessor)
    (picture,) = tensors("image", [MEDIA / f"{name}.png"], part)
    expected = golden("image_preprocess")[f"{name}.{'pad' if pad else 'plain'}"]
    torch.testing.assert_close(picture, expected, atol=2e-5, rtol=1e-5)


def test_a_picture_at_the_published_size(tmp_path) -> None:
    part = read(tmp_path, profile.image(336, pad=True), AutoImageProcessor)
    (picture,) = tensors("image", [Image.open(MEDIA / "img_50x36.png").convert("RGB")], part)
    expected = golden("image_preprocess")["img_50x36.pad_336_every_8th_pixel"]
    torch.testing.assert_close(picture[:, ::8, ::8], expected, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["mono16k", "stereo22k"])
def test_sounds_become_filterbanks(tmp_path, name) -> None:
    part = read(tmp_path, profile.AUDIO, AutoFeatureExtractor)
    (sound,) = tensors("audio", [MEDIA / f"{name}.wav"], part)
    expected = golden("audio_preprocess")
    number = int(expected[f"{name}.n_frames_before_padding"])
    assert sound.shape == (1024, 128)
    assert not sound[number:].any()
    frames = expected[f"{name}.fbank"]
    torch.testing.assert_close(sound[: len(frames)], frames, atol=2e-3, rtol=1e-3)


def test_long_sounds_are_cut_off() -> None:
    sound = np.random.default_rng(0).normal(size=12 * 16000).astype(np.float32) / 10
    whole, cut = tensors("audio", [sound, sound[: 11 * 16000]], KaldiFbankFeatureExtractor())
    assert torch.equal(whole, cut)


def test_a_sound_that_is_no_window_long_is_an_error() -> None:
    with pytest.raises(MediaError, match=r"shape \[399\], expected one channel of at least 400"):
        tensors("audio", [np.zeros(399, np.float32)], KaldiFbankFeatureExtractor())


def test_a_sound_of_another_rate_is_an_error() -> None:
    with pytest.raises(MediaError, match="found a rate of 8000 Hz, expected 16000 Hz"):
        KaldiFbankFeatureExtractor()(np.zeros(800, np.float32), sampling_rate=8000)


def test_clips_are_normalised_made_small_and_cropped(tmp_path) -> None:
    part = read(tmp_path, profile.video(224, 8), AutoVideoProcessor)
    expected = golden("video_preprocess")
    frames = expected["frames_uint8"].numpy()
    (clip,) = tensors("video", [frames], part, do_sample_frames=False)
    assert list(clip.transpose(0, 1).shape) == expected["expected_shape"].tolist()
    shown = clip.transpose(0, 1)[..., ::4, ::4]
    torch.testing.assert_close(shown, expected["expected_no_flip_every_4th"], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "case", json.loads((GOLDENS / "parity/video_frame_indices.json").read_text())
)
def test_frames_are_equally_spaced(case) -> None:
    expected = json.loads((GOLDENS / "parity/video_frame_indices.json").read_text())[case]
    duration, frames = (int(part.split("=")[1]) for part in case.split(","))
    metadata = VideoMetadata(total_num_frames=duration)
    assert LanguageBindVideoProcessor(num_frames=frames).sample_frames(metadata) == expected


def test_a_clip_in_memory_is_sampled_as_a_file_is() -> None:
    frames = np.random.default_rng(0).integers(0, 255, (30, 24, 30, 3), dtype=np.uint8)
    part = LanguageBindVideoProcessor(num_frames=4)
    sampled, chosen = (
        tensors("video", [frames], part)[0],
        tensors("video", [frames[[0, 9, 19, 29]]], part, do_sample_frames=False)[0],
    )
    assert torch.equal(sampled, chosen)


def test_point_clouds_are_used_as_they_are_or_normalised(tmp_path) -> None:
    expected = golden("point_norm")
    np.save(tmp_path / "cloud.npy", expected["points"].numpy())
    assert torch.equal(tensors("point", [tmp_path / "cloud.npy"])[0], expected["points"])
    (cloud,) = tensors("point", [expected["points"].numpy()], normalize=True)
    torch.testing.assert_close(cloud, expected["pc_norm"], atol=1e-6, rtol=1e-5)


def test_sounds_whose_extractor_calls_them_otherwise() -> None:
    sound = np.random.default_rng(0).normal(size=1600).astype(np.float32)
    (samples,) = tensors("audio", [sound], Wav2Vec2FeatureExtractor())
    assert samples.shape == (1600,)
    assert samples.mean().abs() < 1e-5
    (patches,) = tensors("audio", [sound], ASTFeatureExtractor(max_length=64))
    assert patches.shape == (64, 128)


@pytest.mark.parametrize(
    ("config", "reader"),
    [
        (profile.image(28, pad=True), AutoImageProcessor),
        (profile.AUDIO, AutoFeatureExtractor),
        (profile.video(28, 4), AutoVideoProcessor),
    ],
)
def test_a_saved_preprocessor_stays_what_it_was(tmp_path, config, reader) -> None:
    part = read(tmp_path, config, reader)
    part.save_pretrained(tmp_path / "saved")
    again = reader.from_pretrained(tmp_path / "saved")
    assert type(again) is type(part)
    assert again.to_dict() == part.to_dict()
    assert dict(config).items() <= json.loads(part.to_json_string()).items()
