"""Connectors: an encoder's features to LLM embeddings. One per file, one plain registry."""

from collections.abc import Mapping
from typing import cast

from omnicompose.connectors.attention_pool import AttentionPool
from omnicompose.connectors.average_pool import AveragePool
from omnicompose.connectors.connector import Config, Connector
from omnicompose.connectors.conv_pool import ConvPool
from omnicompose.connectors.identity import Identity
from omnicompose.connectors.linear import Linear
from omnicompose.connectors.mlp import Mlp
from omnicompose.connectors.perceiver import Perceiver
from omnicompose.connectors.pixel_shuffle import PixelShuffle
from omnicompose.connectors.qformer import QFormer
from omnicompose.connectors.temporal_pool import TemporalPool
from omnicompose.errors import SourceError

CONNECTORS: dict[str, type[Connector]] = {
    "attention_pool": AttentionPool,
    "average_pool": AveragePool,
    "conv_pool": ConvPool,
    "identity": Identity,
    "linear": Linear,
    "mlp": Mlp,
    "perceiver": Perceiver,
    "pixel_shuffle": PixelShuffle,
    "qformer": QFormer,
    "temporal_pool": TemporalPool,
}
"""Every connector by the name that configurations use."""

__all__ = ["CONNECTORS", "Config", "Connector", "make_connector", "num_tokens"]


def make_connector(description: Mapping[str, object]) -> Connector:
    """The connector that `{"type": name, "config": {...}}` describes, with fresh weights.

    Raises:
        SourceError: an unknown type, or a config that the type does not know.
    """
    return _connector_class(description).from_config(cast(Config, description["config"]))


def num_tokens(description: Mapping[str, object], num_features: int) -> int:
    """LLM embeddings that one medium of `num_features` features becomes; builds no module.

    Raises:
        SourceError: an unknown type, or a config that the type does not know.
    """
    config = cast(Config, description["config"])
    return _connector_class(description).num_tokens(config, num_features)


def _connector_class(description: Mapping[str, object]) -> type[Connector]:
    name = description["type"]
    if name not in CONNECTORS:
        raise SourceError(
            f"connector {name!r} is unknown: expected one of {', '.join(CONNECTORS)}. "
            "Correct the connector's type."
        )
    return CONNECTORS[str(name)]
