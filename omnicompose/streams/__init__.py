"""Streams: in one language model, each modality's tokens use their own weights."""

from omnicompose.streams.decouple import LINEAR_ROLES, StreamSpec, decouple
from omnicompose.streams.linear import DecoupledLinear, DenseStream, FactoredStream, Stream
from omnicompose.streams.routing import (
    TEXT,
    Routing,
    RoutingSlot,
    make_routing,
    remember_routing,
)

__all__ = [
    "LINEAR_ROLES",
    "TEXT",
    "DecoupledLinear",
    "DenseStream",
    "FactoredStream",
    "Routing",
    "RoutingSlot",
    "Stream",
    "StreamSpec",
    "decouple",
    "make_routing",
    "remember_routing",
]
