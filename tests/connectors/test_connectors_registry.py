"""Every connector, through the registry alone, keeps the contract of `Connector`."""

import json

import pytest
import torch

from omnicompose.connectors import CONNECTORS, make_connector, num_tokens
from omnicompose.errors import SourceError

SIZES = {"input_size": 6, "output_size": 10}
POOL = SIZES | {"num_queries": 4, "hidden_size": 8}
CASES = [
    ("linear", SIZES, 5),
    ("linear", SIZES | {"bias": False}, 5),
    ("mlp", SIZES, 5),
    ("mlp", SIZES | {"hidden_size": 3, "activation": "relu", "bias": False}, 5),
    ("attention_pool", POOL, 4),
    ("attention_pool", POOL | {"num_heads": 2}, 4),
]


def test_every_connector_has_a_case() -> None:
    assert {case[0] for case in CASES} == set(CONNECTORS)


@pytest.mark.parametrize(("name", "config", "count"), CASES)
def test_num_tokens_is_that_of_forward(name, config, count) -> None:
    description = json.loads(json.dumps({"type": name, "config": config}))
    connector = make_connector(description)
    with torch.no_grad():
        assert connector(torch.randn(2, 5, 6)).shape == (2, count, 10)
    assert num_tokens(description, 5) == count


@pytest.mark.parametrize(("name", "config", "count"), CASES)
def test_a_batch_gives_what_single_media_give(name, config, count) -> None:
    torch.manual_seed(0)
    connector = make_connector({"type": name, "config": config})
    features = torch.randn(3, 5, 6)
    with torch.no_grad():
        singles = torch.cat([connector(single[None]) for single in features])
        torch.testing.assert_close(connector(features), singles)


def test_attention_pool_does_not_depend_on_the_order_of_features() -> None:
    torch.manual_seed(0)
    connector = make_connector({"type": "attention_pool", "config": POOL})
    features = torch.randn(1, 7, 6)
    with torch.no_grad():
        torch.testing.assert_close(connector(features), connector(features.flip(1)))


@pytest.mark.parametrize("name", CONNECTORS)
def test_unknown_config_keys_are_errors_that_name_them(name) -> None:
    with pytest.raises(SourceError, match=rf"connector '{name}'.*unknown key 'width'.*Known keys"):
        make_connector({"type": name, "config": SIZES | {"width": 1}})


def test_an_unknown_type_is_named_beside_the_known_ones() -> None:
    with pytest.raises(SourceError, match=r"connector 'qformer' is unknown.*attention_pool"):
        num_tokens({"type": "qformer", "config": {}}, 3)


def test_heads_that_do_not_divide_the_width_are_an_error() -> None:
    with pytest.raises(SourceError, match=r"hidden_size 8 does not divide into num_heads 3"):
        make_connector({"type": "attention_pool", "config": POOL | {"num_heads": 3}})
