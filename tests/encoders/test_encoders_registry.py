"""Every encoder, through the registry alone, keeps the contract of `Encoder`."""

import json

import pytest
import torch

from omnicompose.encoders import ENCODERS, make_encoder, num_features
from omnicompose.errors import MediaError, SourceError

VISION = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 4,
}
AUDIO = {
    "d_model": 16,
    "encoder_layers": 1,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "num_mel_bins": 8,
    "max_source_positions": 10,
}
BEATS = {"patch_width": 8, "hidden_size": 16, "intermediate_size": 24, "num_layers": 2}
BEATS |= {"num_heads": 2, "conv_kernel": 4, "conv_groups": 2, "num_buckets": 8, "max_distance": 9}
POINTS = {"hidden_size": 12, "num_layers": 2, "num_heads": 2, "num_groups": 6, "group_size": 4}
POINTS |= {"group_width": 16}
CASES = [
    ("beats", BEATS, (48, 32), 6, 16),
    ("beats", BEATS | {"deep_norm": False, "activation": "relu"}, (40, 32), 4, 16),
    ("clip_vision", {"vision_config": VISION}, (3, 16, 16), 16, 16),
    ("clip_vision", {"vision_config": VISION, "select": "full"}, (3, 16, 16), 17, 16),
    ("clip_vision", {"vision_config": VISION, "feature_layer": [-1, 0]}, (3, 16, 16), 16, 32),
    ("languagebind_video", {"vision_config": VISION}, (8, 3, 16, 16), 136, 16),
    ("languagebind_video", {"vision_config": VISION, "num_frames": 2}, (4, 3, 16, 16), 68, 16),
    ("languagebind_video", {"vision_config": VISION, "feature_layer": 0}, (1, 3, 16, 16), 17, 16),
    ("point_bert", POINTS, (20, 6), 7, 12),
    ("point_bert", POINTS | {"point_size": 3, "first_point": 5}, (9, 3), 7, 12),
    ("whisper", {"audio_config": AUDIO}, (8, 20), 10, 16),
    ("conv_video", {"channels": [4, 8], "feature_size": 12}, (5, 3, 16, 16), 5, 12),
    ("conv_video", {"channels": [4, 8], "feature_size": 12}, (2, 3, 40, 24), 2, 12),
]


def test_every_encoder_has_a_case() -> None:
    assert {case[0] for case in CASES} == set(ENCODERS)


@pytest.mark.parametrize(("name", "config", "shape", "count", "width"), CASES)
def test_num_features_and_width_are_those_of_forward(name, config, shape, count, width) -> None:
    description = json.loads(json.dumps({"type": name, "config": config}))
    encoder = make_encoder(description).eval()
    with torch.no_grad():
        features = encoder(torch.randn(2, *shape))
    assert features.shape == (2, count, width)
    assert encoder.feature_size == width
    assert num_features(description, shape) == count


@pytest.mark.parametrize(("name", "config", "shape"), [case[:3] for case in CASES])
def test_a_batch_gives_what_single_media_give(name, config, shape) -> None:
    torch.manual_seed(0)
    encoder = make_encoder({"type": name, "config": config}).eval()
    media = torch.randn(3, *shape)
    with torch.no_grad():
        singles = torch.cat([encoder(medium[None]) for medium in media])
        torch.testing.assert_close(encoder(media), singles)


def test_an_unknown_type_is_named_beside_the_known_ones() -> None:
    with pytest.raises(SourceError, match=r"encoder 'clip' is unknown.*clip_vision.*whisper"):
        make_encoder({"type": "clip", "config": {}})


@pytest.mark.parametrize("name", ENCODERS)
def test_unknown_config_keys_are_errors_that_name_them(name) -> None:
    with pytest.raises(SourceError, match=rf"encoder '{name}'.*unknown key 'colour'.*Known keys"):
        make_encoder({"type": name, "config": {"colour": 1}})


def test_all_mistakes_of_a_config_come_in_one_message() -> None:
    config = {"channels": [4, "wide"], "temporal_kernel": True}
    with pytest.raises(SourceError) as caught:
        num_features({"type": "conv_video", "config": config}, (2, 3, 8, 8))
    message = str(caught.value)
    assert "no 'feature_size'" in message
    assert "'channels' = [4, 'wide'] where list[int] is expected" in message
    assert "'temporal_kernel' = True where int is expected" in message


def test_a_cloud_that_cannot_be_grouped_is_an_error() -> None:
    with pytest.raises(
        MediaError, match=r"shape \[5, 6\], expected at least 6 points of 6 numbers"
    ):
        num_features({"type": "point_bert", "config": POINTS}, (5, 6))
    encoder = make_encoder({"type": "point_bert", "config": POINTS})
    with pytest.raises(MediaError, match=r"shape \[20, 3\]"):
        encoder(torch.randn(1, 20, 3))


def test_frames_that_the_tower_cannot_group_are_an_error() -> None:
    description = {"type": "languagebind_video", "config": {"vision_config": VISION}}
    with pytest.raises(MediaError, match="found 5 frames, expected 1 or a multiple of 8"):
        num_features(description, (5, 3, 16, 16))
