"""Every connector, through the registry alone, keeps the contract of `Connector`."""

import json

import pytest
import torch

from omnicompose.connectors import CONNECTORS, make_connector, num_tokens
from omnicompose.errors import SourceError

SIZES = {"input_size": 6, "output_size": 10}
POOL = SIZES | {"num_queries": 4, "hidden_size": 8}
QFORMER = SIZES | {"num_queries": 4, "num_layers": 2, "hidden_size": 8, "num_heads": 2}
QFORMER |= {"intermediate_size": 12}
PERCEIVER = SIZES | {"num_latents": 3, "num_layers": 2, "hidden_size": 8, "num_heads": 2}
PERCEIVER |= {"num_key_value_heads": 1, "head_size": 4}
FRAMES = SIZES | {"features_per_frame": 4}
CASES = [
    ("attention_pool", POOL, 5, 4),
    ("attention_pool", POOL | {"num_heads": 2}, 5, 4),
    ("average_pool", SIZES, 5, 3),
    ("average_pool", SIZES | {"window": 5, "num_layers": 1}, 12, 3),
    ("average_pool", SIZES | {"layout": "square"}, 16, 4),
    ("conv_pool", SIZES, 5, 3),
    ("conv_pool", SIZES | {"window": 3, "layout": "square"}, 36, 4),
    ("identity", {}, 5, 5),
    ("linear", SIZES, 5, 5),
    ("linear", SIZES | {"bias": False}, 5, 5),
    ("mlp", SIZES, 5, 5),
    ("mlp", SIZES | {"hidden_size": 3, "activation": "relu", "bias": False}, 5, 5),
    ("mlp", SIZES | {"num_layers": 1}, 5, 5),
    ("mlp", SIZES | {"num_layers": 4}, 5, 5),
    ("perceiver", PERCEIVER, 5, 3),
    ("pixel_shuffle", SIZES, 16, 4),
    ("pixel_shuffle", SIZES | {"factor": 4, "num_layers": 1, "norm": False}, 16, 1),
    ("qformer", QFORMER, 5, 4),
    ("qformer", QFORMER | {"max_positions": 5}, 5, 4),
    ("temporal_pool", FRAMES, 12, 7),
    ("temporal_pool", FRAMES | {"keep": "places"}, 12, 4),
    ("temporal_pool", FRAMES | {"keep": "frames"}, 12, 3),
]
PARAMETERS = ("name", "config", "before", "after")


def test_every_connector_has_a_case() -> None:
    assert {case[0] for case in CASES} == set(CONNECTORS)


@pytest.mark.parametrize(PARAMETERS, CASES)
def test_num_tokens_is_that_of_forward(name, config, before, after) -> None:
    description = json.loads(json.dumps({"type": name, "config": config}))
    connector = make_connector(description)
    width = config.get("output_size", 6)
    with torch.no_grad():
        assert connector(torch.randn(2, before, 6)).shape == (2, after, width)
    assert num_tokens(description, before) == after


@pytest.mark.parametrize(PARAMETERS, CASES)
def test_a_batch_gives_what_single_media_give(name, config, before, after) -> None:
    torch.manual_seed(0)
    connector = make_connector({"type": name, "config": config}).eval()
    features = torch.randn(3, before, 6)
    with torch.no_grad():
        singles = torch.cat([connector(single[None]) for single in features])
        torch.testing.assert_close(connector(features), singles)


@pytest.mark.parametrize(("name", "config"), [case[:2] for case in CASES])
def test_no_parameter_is_left_unused(name, config) -> None:
    connector = make_connector({"type": name, "config": config}).train()
    before = next(case[2] for case in CASES if case[:2] == (name, config))
    connector(torch.randn(2, before, 6, requires_grad=True)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in connector.parameters())


def test_attention_pool_does_not_depend_on_the_order_of_features() -> None:
    torch.manual_seed(0)
    connector = make_connector({"type": "attention_pool", "config": POOL})
    features = torch.randn(1, 7, 6)
    with torch.no_grad():
        torch.testing.assert_close(connector(features), connector(features.flip(1)))


@pytest.mark.parametrize("name", CONNECTORS)
def test_unknown_config_keys_are_errors_that_name_them(name) -> None:
    with pytest.raises(SourceError, match=rf"connector '{name}'.*unknown key 'width'.*Known keys"):
        make_connector({"type": name, "config": {"width": 1}})


def test_an_unknown_type_is_named_beside_the_known_ones() -> None:
    with pytest.raises(SourceError, match=r"connector 'glue' is unknown.*attention_pool"):
        num_tokens({"type": "glue", "config": {}}, 3)


@pytest.mark.parametrize(("name", "config"), [("attention_pool", POOL), ("qformer", QFORMER)])
def test_heads_that_do_not_divide_the_width_are_an_error(name, config) -> None:
    with pytest.raises(SourceError, match=r"hidden_size 8 does not divide into num_heads 3"):
        make_connector({"type": name, "config": config | {"num_heads": 3}})


@pytest.mark.parametrize(
    ("name", "config", "features", "message"),
    [
        ("mlp", SIZES | {"num_layers": 0}, 4, "found num_layers 0, expected at least 1"),
        ("pixel_shuffle", SIZES, 15, "found 15 features.*expected a square whose side 2 divides"),
        ("pixel_shuffle", SIZES, 9, "found 9 features"),
        ("average_pool", SIZES | {"layout": "square"}, 17, "Leave out the class token"),
        ("conv_pool", SIZES | {"layout": "square"}, 17, "connector 'conv_pool': found 17"),
        ("temporal_pool", FRAMES, 9, "expected a multiple of features_per_frame 4"),
        ("qformer", QFORMER | {"max_positions": 5}, 6, "6 features, but positions for 5 only"),
    ],
)
def test_features_that_do_not_fit_are_an_error(name, config, features, message) -> None:
    with pytest.raises(SourceError, match=message):
        num_tokens({"type": name, "config": config}, features)


def test_averages_of_a_sequence_cover_all_of_it() -> None:
    config = {"input_size": 2, "output_size": 2, "window": 2, "num_layers": 1}
    pool = make_connector({"type": "average_pool", "config": config})
    features = torch.tensor([[[1.0, 0.0], [3.0, 0.0], [7.0, 2.0]]])
    with torch.no_grad():
        expected = pool.mlp(torch.tensor([[[2.0, 0.0], [7.0, 2.0]]]))
        torch.testing.assert_close(pool(features), expected)
