"""Encoders against the outputs of the published implementations (tests/goldens/parity)."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from omnicompose.encoders import make_encoder, num_features
from omnicompose.encoders.point_bert import farthest_points, nearest_points
from omnicompose.experts import modelcompose_names as names

GOLDENS = Path(__file__).parents[1] / "goldens"
ENCODERS = GOLDENS / "e2e" / "encoders"
TOLERANCE = {"atol": 1e-4, "rtol": 1e-4}
VISION = json.loads((ENCODERS / "clip_tiny" / "config.json").read_text())
VIDEO = json.loads((ENCODERS / "LanguageBind_Video_merge" / "config.json").read_text())
BEATS = {"patch_width": 24, "hidden_size": 32, "intermediate_size": 48, "num_layers": 2}
BEATS |= {"num_heads": 4, "conv_kernel": 16, "conv_groups": 4, "num_buckets": 32}
BEATS |= {"max_distance": 64}
POINT_BERT = {"hidden_size": 24, "num_layers": 2, "num_heads": 3, "num_groups": 16}
POINT_BERT |= {"group_size": 8, "group_width": 32}


def golden(name):
    return load_file(GOLDENS / "parity" / f"{name}.safetensors")


def encoder(kind, config, state, table):
    found = make_encoder({"type": kind, "config": config}).eval()
    renamed = names.rename(state, table, kind)
    found.load_state_dict({new: state[old] for new, old in renamed.items()})
    return found


@pytest.mark.parametrize("layer", [0, 1, -2, -1])
@torch.no_grad()
def test_clip_gives_every_hidden_state(layer) -> None:
    config = {"vision_config": VISION, "feature_layer": layer, "select": "full"}
    state = load_file(ENCODERS / "clip_tiny" / "model.safetensors")
    expected = golden("clip_vision")
    clip = encoder("clip_vision", config, state, names.CLIP)
    states = expected[f"hidden_states.{layer % 4}"]
    torch.testing.assert_close(clip(expected["pixel_values"]), states, **TOLERANCE)


@torch.no_grad()
def test_clip_gives_the_features_that_llava_takes() -> None:
    state = load_file(ENCODERS / "clip_tiny" / "model.safetensors")
    clip = encoder("clip_vision", {"vision_config": VISION}, state, names.CLIP)
    expected = golden("clip_vision")
    features = clip(expected["pixel_values"])
    torch.testing.assert_close(features, expected["features_select_-2_patch"], **TOLERANCE)


@pytest.mark.parametrize("name", ["short", "padded"])
@torch.no_grad()
def test_beats_with_and_without_padding(name) -> None:
    state = torch.load(ENCODERS / "beats_tiny.pt", weights_only=True)["model"]
    beats = encoder("beats", BEATS, state, names.BEATS)
    expected = golden(f"beats_{name}")
    sounds = expected["fbank"]
    patches = beats.patch_embedding(sounds[:, None]).flatten(2).transpose(1, 2)
    torch.testing.assert_close(patches, expected["patch_embedding"], **TOLERANCE)
    features = beats(sounds, expected["padding_mask"])
    torch.testing.assert_close(features, expected["features"], **TOLERANCE)
    if not expected["padding_mask"].any():
        torch.testing.assert_close(beats(sounds), expected["features"], **TOLERANCE)


@torch.no_grad()
def test_what_beats_hides_as_padding_changes_no_sound() -> None:
    state = torch.load(ENCODERS / "beats_tiny.pt", weights_only=True)["model"]
    beats = encoder("beats", BEATS, state, names.BEATS)
    expected = golden("beats_padded")
    sounds, padding = expected["fbank"].clone(), expected["padding_mask"]
    heard = expected["valid"]
    sounds[padding] = 7.0
    # A patch that holds sound and padding is heard whole, so only those beyond may change.
    whole = torch.zeros_like(padding)
    whole[:, -32:] = padding[:, -32:]
    sounds[padding & ~whole] = expected["fbank"][padding & ~whole]
    features = beats(sounds, padding)
    torch.testing.assert_close(features[heard], expected["features"][heard], **TOLERANCE)


@pytest.mark.parametrize("layer", [0, 1, -2, -1])
@pytest.mark.parametrize("name", ["video", "single_frame", "batch_of_single_frames"])
@torch.no_grad()
def test_languagebind_gives_every_hidden_state(name, layer) -> None:
    config = {"vision_config": VIDEO["vision_config"], "num_frames": 4, "feature_layer": layer}
    state = load_file(ENCODERS / "LanguageBind_Video_merge" / "model.safetensors")
    tower = encoder("languagebind_video", config, state, names.LANGUAGEBIND_VIDEO)
    expected = golden(f"languagebind_{name}")
    clips = expected["pixel_values"].transpose(1, 2)
    if name == "batch_of_single_frames":
        # The published tower mixes a batch of stills as if they were one clip; here they must be.
        clips = clips.transpose(0, 1)
    states = expected[f"hidden_states.{layer % 4}"]
    torch.testing.assert_close(tower(clips).view(states.shape), states, **TOLERANCE)


@pytest.mark.parametrize("first", [0, 17])
@torch.no_grad()
def test_point_bert_from_any_first_point(first) -> None:
    state = load_file(ENCODERS / "pointbert_tiny.safetensors")
    state = {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
    net = encoder("point_bert", POINT_BERT | {"first_point": first}, state, names.POINT_BERT)
    expected = golden(f"pointbert_start{first}")
    clouds = expected["points"]
    centres = farthest_points(clouds[..., :3], 16, first)
    assert torch.equal(centres, expected["centers"])
    tokens = net.encoder(nearest_points(clouds, centres, 8))
    torch.testing.assert_close(tokens, expected["group_tokens"], **TOLERANCE)
    torch.testing.assert_close(net(clouds), expected["features"], **TOLERANCE)


@torch.no_grad()
def test_the_order_of_points_changes_nothing_but_where_sampling_begins() -> None:
    net = make_encoder({"type": "point_bert", "config": POINT_BERT}).eval()
    clouds = golden("pointbert_start0")["points"]
    order = torch.cat([torch.tensor([0]), 1 + torch.randperm(clouds.shape[1] - 1)])
    torch.testing.assert_close(net(clouds[:, order]), net(clouds), **TOLERANCE)


@pytest.mark.parametrize(
    ("kind", "config", "shape", "count"),
    [
        ("clip_vision", {"vision_config": {"patch_size": 14}}, (3, 336, 336), 576),
        ("beats", BEATS, (1024, 128), 512),
        ("languagebind_video", {"vision_config": {"patch_size": 14}}, (8, 3, 224, 224), 2056),
        ("languagebind_video", {"vision_config": {"patch_size": 14}}, (1, 3, 224, 224), 257),
        ("point_bert", POINT_BERT | {"num_groups": 512, "group_size": 32}, (8192, 6), 513),
    ],
)
def test_published_encoders_give_the_published_number_of_features(
    kind, config, shape, count
) -> None:
    """Specification of ModelCompose, section 3.3."""
    assert num_features({"type": kind, "config": config}, shape) == count
