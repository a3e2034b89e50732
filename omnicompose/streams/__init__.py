"""Streams: in one language model, each modality's tokens use their own weights."""

from omnicompose.streams.adapters import refuse_merging
from omnicompose.streams.decouple import LINEAR_ROLES, StreamSpec, decouple
from omnicompose.streams.forms import (
    DenseStream,
    FactoredStream,
    MaskedStream,
    Stream,
    mask_bytes,
    pack_mask,
    unpack_mask,
)
from omnicompose.streams.linear import DecoupledLinear
from omnicompose.streams.routing import (
    TEXT,
    TEXT_OF,
    Routing,
    RoutingSlot,
    make_routing,
    only_modality,
    remember_routing,
)

__all__ = [
    "LINEAR_ROLES",
    "TEXT",
    "TEXT_OF",
    "DecoupledLinear",
    "DenseStream",
    "FactoredStream",
    "MaskedStream",
    "Routing",
    "RoutingSlot",
    "Stream",
    "StreamSpec",
    "decouple",
    "make_routing",
    "mask_bytes",
    "only_modality",
    "pack_mask",
    "refuse_merging",
    "remember_routing",
    "unpack_mask",
]
