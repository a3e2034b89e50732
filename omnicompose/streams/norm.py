"""Normalisation layers whose scale differs by modality: the family's own module, once per stream.

A norm keeps its class, its names and its text weight; stream m is a copy of it with a weight of its
own under `<path>.streams.<m>`, and a forward hook lets each stream's tokens replace the result.
"""

from copy import deepcopy
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn

from omnicompose.streams.linear import check_tokens
from omnicompose.streams.routing import Routing, RoutingSlot


def is_norm(module: nn.Module) -> bool:
    """Whether a module is a normalisation layer: a leaf whose weight is a vector."""
    weight = getattr(module, "weight", None)
    inner = [name for name, _ in module.named_children() if name != "streams"]
    return isinstance(weight, nn.Parameter) and weight.dim() == 1 and not inner


def decouple_norm(norm: nn.Module, name: str, slot: RoutingSlot) -> None:
    """Give a norm the stream `name`, which starts like the norm itself."""
    stream = deepcopy(norm)
    if hasattr(norm, "streams"):
        del stream.streams
        stream._forward_hooks.clear()
    else:
        norm.add_module("streams", nn.ModuleDict())
        norm.register_forward_hook(_Route(slot=slot))
    _streams(norm)[name] = stream


def _streams(norm: nn.Module) -> nn.ModuleDict:
    return cast(nn.ModuleDict, norm.get_submodule("streams"))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Route:
    """The hook: what own tokens see in place of the text norm's result."""

    slot: RoutingSlot

    def __call__(
        self, norm: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor
    ) -> torch.Tensor | None:
        routing = self.slot.routing
        if routing is None:
            return None
        routed: torch.Tensor = self._routed(norm, inputs[0], output, routing)
        return routed

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # as in decoupled linear layers
    def _routed(
        self, norm: nn.Module, hidden: torch.Tensor, output: torch.Tensor, routing: Routing
    ) -> torch.Tensor:
        check_tokens(hidden.shape[0] * hidden.shape[1], routing)
        routing = routing.on(hidden.device)
        flat, result = hidden.flatten(0, 1), output.flatten(0, 1).clone()
        streams = _streams(norm)
        for name, rows in routing.visits(tuple(streams)).items():
            rows.put(result, streams[name](rows.take(flat)))
        return result.view_as(output)
