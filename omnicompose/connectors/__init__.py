"""Connectors: an encoder's features to LLM embeddings. One per file, one plain registry."""

from collections.abc import Mapping
from typing import cast

from omnicompose.connectors.attention_pool import AttentionPool
from omnicompose.connectors.connector import Config, Connector
from omnicompose.connectors.linear import Linear
from omnicompose.connectors.mlp import Mlp
from omnicompose.errors import SourceError

CONNECTORS: dict[str, type[Connector]] = {
    "attention_pool": AttentionPool,
    "linear": Linear,
    "mlp": Mlp,
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
