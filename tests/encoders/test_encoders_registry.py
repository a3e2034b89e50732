"""Every encoder, through the registry alone, keeps the contract of `Encoder`."""

import json

import pytest
import torch

from omnicompose.encoders import ENCODERS, make_encoder, media_dtype, num_features
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
SMALL = {name: VISION[name] for name in VISION if name not in ("image_size", "patch_size")}
DINO = {name: VISION[name] for name in VISION if name != "intermediate_size"}
INTERN = SMALL | {"image_size": [16, 16], "patch_size": [4, 4]}
OPEN_CLIP = {"layers": 2, "width": 16, "head_width": 8, "patch_size": 4, "image_size": 16}
OPEN_CLIP = {"vision_config": OPEN_CLIP, "embed_dim": 8}
SPECTROGRAM = SMALL | {"patch_size": 4, "frequency_stride": 3, "time_stride": 3}
SPECTROGRAM = {"audio_config": SPECTROGRAM | {"max_length": 20, "num_mel_bins": 10}}
CLAP = {"window_size": 2, "num_mel_bins": 8, "spec_size": 32, "patch_size": 4, "hidden_size": 32}
CLAP |= {"patch_stride": [4, 4], "depths": [1, 1], "num_attention_heads": [2, 2]}
CLAP |= {"patch_embeds_hidden_size": 16, "num_hidden_layers": 2}
SPEECH = {"convolutions": [[8, 10, 5], [8, 3, 2]], "conv_bias": False, "num_layers": 2}
SPEECH |= {"extractor_mode": "group_norm", "hidden_size": 16, "intermediate_size": 24}
SPEECH |= {"num_heads": 2, "position_kernel": 4, "position_groups": 2}
HUBERT = {"extractor_mode": "layer_norm", "layer_norm_first": True, "feature_layer": 1}
FRAMES = {"num_mel_bins": 16, "num_layers": 2, "num_heads": 2, "intermediate_size": 24}
TUBES = VISION | {"num_frames": 4, "tubelet_size": 2}
JEPA = {"patch_size": 4, "crop_size": 16, "frames_per_clip": 4, "tubelet_size": 2}
JEPA |= {"hidden_size": 24, "num_attention_heads": 2, "num_hidden_layers": 2, "mlp_ratio": 2.0}
JEPA |= {"pred_hidden_size": 12, "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1}
PICTURE = {"type": "clip_vision", "config": {"vision_config": VISION}}
VIT = {"model": "vit_tiny_patch16_224", "options": {"img_size": 32, "depth": 1}}
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
    ("siglip_vision", {"vision_config": VISION}, (3, 16, 16), 16, 16),
    ("siglip2_vision", {"vision_config": SMALL | {"patch_size": 4}}, (3, 16, 24), 24, 16),
    ("dinov2", {"vision_config": DINO}, (3, 16, 24), 24, 16),
    ("dinov2", {"vision_config": DINO, "select": "full", "feature_layer": 1}, (3, 8, 8), 5, 16),
    ("pixtral", {"vision_config": VISION | {"head_dim": 8}}, (3, 16, 24), 24, 16),
    ("intern_vit", {"vision_config": INTERN}, (3, 16, 16), 16, 16),
    ("timm_vision", VIT, (3, 32, 32), 4, 192),
    ("timm_vision", VIT | {"keep_prefix": True}, (3, 32, 32), 5, 192),
    ("timm_vision", {"model": "test_convnext"}, (3, 64, 64), 4, 64),
    ("open_clip_vision", OPEN_CLIP, (3, 16, 16), 16, 16),
    ("open_clip_vision", OPEN_CLIP | {"select": "full", "feature_layer": 0}, (3, 16, 16), 17, 16),
    ("qwen2_audio", {"audio_config": AUDIO}, (8, 20), 5, 16),
    ("spectrogram_transformer", SPECTROGRAM, (20, 10), 18, 16),
    ("spectrogram_transformer", SPECTROGRAM | {"select": "full"}, (20, 10), 20, 16),
    ("clap_audio", {"audio_config": CLAP}, (1, 60, 8), 16, 32),
    ("wav2vec2", SPEECH, (400,), 39, 16),
    ("wav2vec2", SPEECH | HUBERT, (403,), 39, 16),
    ("conformer", FRAMES | {"kernel_size": 5}, (30, 16), 30, 16),
    ("frame_wise", {"picture": PICTURE}, (5, 3, 16, 16), 80, 16),
    ("frame_wise", {"picture": PICTURE, "window": 2}, (5, 3, 16, 16), 48, 16),
    ("videomae", {"vision_config": TUBES}, (4, 3, 16, 16), 32, 16),
    ("vjepa2", {"vision_config": JEPA}, (4, 3, 16, 16), 32, 24),
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


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("timm_vision", {"model": "vit_of_nobody"}, "timm has no model 'vit_of_nobody'"),
        (
            "open_clip_vision",
            {"vision_config": {"layers": [1, 1, 1, 1], "width": 64}, "embed_dim": 8},
            "found a ModifiedResNet, expected a vision transformer",
        ),
        ("clap_audio", {"audio_config": CLAP | {"enable_fusion": True}}, "found enable_fusion"),
        ("frame_wise", {"picture": {"type": "whisper"}}, "found 'whisper' for pictures, expected"),
    ],
)
def test_what_a_library_cannot_build_is_an_error(name, config, message) -> None:
    with pytest.raises(SourceError, match=message):
        make_encoder({"type": name, "config": config})


def test_a_sound_too_short_for_a_feature_is_an_error() -> None:
    with pytest.raises(MediaError, match="found 12 samples, too few for a single feature"):
        num_features({"type": "wav2vec2", "config": SPEECH}, (12,))


def test_frames_are_averaged_window_by_window() -> None:
    torch.manual_seed(0)
    single = make_encoder({"type": "frame_wise", "config": {"picture": PICTURE}}).eval()
    pairs = make_encoder({"type": "frame_wise", "config": {"picture": PICTURE, "window": 2}}).eval()
    pairs.load_state_dict(single.state_dict())
    clip = torch.randn(1, 3, 3, 16, 16)
    with torch.no_grad():
        first, second, third = single(clip).chunk(3, dim=1)
        expected = torch.cat([(first + second) / 2, third], dim=1)
        torch.testing.assert_close(pairs(clip), expected)


def test_half_precision_groups_the_same_points() -> None:
    """Coordinates that bfloat16 would round into one another decide who is near whom."""
    torch.manual_seed(0)
    encoder = make_encoder({"type": "point_bert", "config": POINTS})
    assert isinstance(encoder, torch.nn.Module)
    cloud = torch.rand(1, 64, 6) * 0.05 + 1.0
    groups: list[torch.Tensor] = []
    encoder.encoder.register_forward_hook(lambda _, inputs, __: groups.append(inputs[0].float()))
    exact = encoder.eval()(cloud)
    assert media_dtype(encoder.to(torch.bfloat16)) == torch.float32
    rough = encoder(cloud)
    assert rough.dtype == torch.bfloat16
    torch.testing.assert_close(groups[0], groups[1], atol=1e-3, rtol=1e-2)
    torch.testing.assert_close(rough.float(), exact, atol=0.1, rtol=0.1)
    whisper = make_encoder({"type": "whisper", "config": {"audio_config": AUDIO}})
    assert isinstance(whisper, torch.nn.Module)
    assert media_dtype(whisper.to(torch.bfloat16)) == torch.bfloat16
