"""Which token of a forward belongs to which modality, and how the layers learn of it.

The routing is computed once per forward and lies in a `RoutingSlot` shared by all decoupled layers
of a model, because decoder layers of transformers hand no extra argument to their projections. Why
this is safe:

- a forward inside a forward, or generation inside one: `RoutingSlot.using` puts back what it found;
- threads: the slot is thread-local;
- gradient checkpointing: the recomputation runs after the forward has left, perhaps in a thread of
  autograd, so `remember_routing` closes over the routing of the first run and reinstates it;
- device_map: index tensors follow the layer's device, one copy per device and forward.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import torch

from omnicompose.errors import ModelInputError
from omnicompose.modalities import MODALITIES, TEXT_TOKEN_TYPE_ID

TEXT = "text"
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """The tokens of one forward by modality: indices `[n]` int64 into the flattened batch.

    Attributes:
        tokens: indices of every modality present, `text` among them.
        num_tokens: B * L of this forward.
    """

    tokens: Mapping[str, torch.Tensor]
    num_tokens: int
    _by_device: dict[torch.device, "Routing"] = field(default_factory=dict, repr=False)

    def on(self, device: torch.device) -> "Routing":
        """The same routing with its indices on `device`, copied at most once."""
        if self.tokens[TEXT].device == device:
            return self
        if device not in self._by_device:
            moved = {name: index.to(device) for name, index in self.tokens.items()}
            self._by_device[device] = Routing(tokens=moved, num_tokens=self.num_tokens)
        return self._by_device[device]

    def outside(self, streams: Sequence[str]) -> torch.Tensor:
        """Indices `[n]` of the tokens that belong to none of `streams`."""
        others = [index for name, index in self.tokens.items() if name not in streams]
        return others[0] if len(others) == 1 else torch.cat(others)


def make_routing(mm_token_type_ids: torch.Tensor) -> Routing | None:
    """Route one forward by its token types; None if every token is text.

    One copy to the host, whatever the number of modalities.

    Args:
        mm_token_type_ids: `[B, L]` integers, the `token_type_id` of each position's modality.

    Raises:
        ModelInputError: a type id that no modality has.
    """
    types = mm_token_type_ids.detach().reshape(-1).cpu()
    names = {modality.token_type_id: modality.name for modality in MODALITIES.values()}
    names[TEXT_TOKEN_TYPE_ID] = TEXT
    present = torch.unique(types).tolist()
    if unknown := [value for value in present if value not in names]:
        raise ModelInputError(
            f"mm_token_type_ids: found {unknown}, expected values among {sorted(names)}. "
            "Use the ids that the processor returns."
        )
    if not set(present) - {TEXT_TOKEN_TYPE_ID}:
        return None
    present = sorted({TEXT_TOKEN_TYPE_ID, *present})
    device = mm_token_type_ids.device
    tokens = {names[value]: (types == value).nonzero().flatten().to(device) for value in present}
    return Routing(tokens=tokens, num_tokens=types.numel())


class RoutingSlot:
    """Where a model's decoupled layers find the routing of the forward that runs in this thread."""

    def __init__(self) -> None:
        """Start empty: every token is text."""
        self._local = threading.local()

    @property
    def routing(self) -> Routing | None:
        """The current routing; None if every token is text."""
        return getattr(self._local, "routing", None)

    @contextmanager
    def using(self, routing: Routing | None) -> Iterator[None]:
        """Route by `routing` inside the block and put back what was there before."""
        before = self.routing
        self._local.routing = routing
        try:
            yield
        finally:
            self._local.routing = before

    def __deepcopy__(self, memo: dict[int, object]) -> "RoutingSlot":
        """A copied model gets an empty slot of its own, shared by all its layers."""
        memo[id(self)] = copied = RoutingSlot()
        return copied

    def __reduce__(self) -> tuple[type["RoutingSlot"], tuple[()]]:
        """Pickle as an empty slot: a routing belongs to a running forward."""
        return RoutingSlot, ()


def remember_routing(checkpoint: Callable[..., Result], slot: RoutingSlot) -> Callable[..., Result]:
    """A gradient checkpointing function whose recomputation sees the routing of its first run."""

    def checkpoint_routed(function: Callable[..., Result], *arguments: object) -> Result:
        routing = slot.routing

        def call(*inputs: object) -> Result:
            with slot.using(routing):
                return function(*inputs)

        return checkpoint(call, *arguments)

    return checkpoint_routed
