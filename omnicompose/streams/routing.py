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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import torch

from omnicompose.errors import ModelInputError
from omnicompose.modalities import MODALITIES, TEXT_TOKEN_TYPE_ID
from omnicompose.streams.rows import Rows, stretch_of

TEXT = "text"
TEXT_OF = "text_"
"""Before a modality's name: the stream of text in prompts that hold only this modality."""
Result = TypeVar("Result")


Layer = tuple[str, ...]
"""The names of a layer's streams."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """The tokens of one forward by modality: indices `[n]` int64 into the flattened batch.

    Attributes:
        tokens: indices of every modality present, `text` among them.
        num_tokens: B * L of this forward.
        adopted: by modality, the text tokens that use its expert's weights too, because no other
            medium is in their row; they are among `tokens[text]`.
        stretches: the tokens of a modality as a slice, where they follow one another.
    """

    tokens: Mapping[str, torch.Tensor]
    num_tokens: int
    adopted: Mapping[str, torch.Tensor] = field(default_factory=dict)
    stretches: Mapping[str, slice | None] = field(default_factory=dict)
    _by_device: dict[torch.device, "Routing"] = field(default_factory=dict, repr=False)
    _visits: dict[Layer, Mapping[str, Rows]] = field(default_factory=dict, repr=False)
    _outside: dict[tuple[Layer, Layer], torch.Tensor] = field(default_factory=dict, repr=False)

    def on(self, device: torch.device) -> "Routing":
        """The same routing with its indices on `device`, copied at most once."""
        if self.tokens[TEXT].device == device:
            return self
        if device not in self._by_device:
            self._by_device[device] = Routing(
                tokens={name: index.to(device) for name, index in self.tokens.items()},
                num_tokens=self.num_tokens,
                adopted={name: index.to(device) for name, index in self.adopted.items()},
                stretches=self.stretches,
            )
        return self._by_device[device]

    def visits(self, layer: Layer) -> Mapping[str, Rows]:
        """Which tokens visit which of a layer's streams; computed once for all alike layers.

        Args:
            layer: the names of its streams. `text_<modality>` takes the adopted text tokens of a
                modality, which visit the modality's own stream where there is no such; `text` takes
                every token that no other stream does.
        """
        if layer not in self._visits:
            found = {name: self._visitors(name, layer) for name in layer if name != TEXT}
            own = {name: rows for name, rows in found.items() if rows.index.numel()}
            self._visits[layer] = own
            if TEXT in layer:
                own[TEXT] = Rows(index=self.outside(layer, tuple(own)))
        return self._visits[layer]

    def _visitors(self, name: str, layer: Layer) -> Rows:
        nothing = self.tokens[TEXT][:0]
        if name.startswith(TEXT_OF):
            return Rows(index=self.adopted.get(name.removeprefix(TEXT_OF), nothing))
        found = self.tokens.get(name, nothing)
        if name in self.adopted and TEXT_OF + name not in layer:
            return Rows(index=torch.cat([found, self.adopted[name]]))
        return Rows(index=found, stretch=self.stretches.get(name))

    def outside(self, layer: Layer, streams: Layer) -> torch.Tensor:
        """Indices `[n]`, ascending, of the tokens that visit none of some streams of a layer."""
        key = (layer, streams)
        if key not in self._outside:
            visits = self.visits(layer)
            device = self.tokens[TEXT].device
            others = torch.ones(self.num_tokens, dtype=torch.bool, device=device)
            for name in streams:
                others[visits[name].index] = False
            self._outside[key] = others.nonzero().flatten()
        return self._outside[key]


def make_routing(
    mm_token_type_ids: torch.Tensor, adopting: torch.Tensor | None = None
) -> Routing | None:
    """Route one forward by its token types; None if every token uses the text weights.

    One copy to the host, whatever the number of modalities.

    Args:
        mm_token_type_ids: `[B, L]` integers, the `token_type_id` of each position's modality.
        adopting: `[B]` integers, the `token_type_id` of the modality whose expert's weights the
            row's text uses too, `TEXT_TOKEN_TYPE_ID` for none; see `only_modality`. None: no row.

    Raises:
        ModelInputError: a type id that no modality has.
    """
    routing: Routing | None = _make_routing(mm_token_type_ids, adopting)
    return routing


# Not compiled: the sizes of what it returns depend on the values of what it is given.
@torch.compiler.disable  # type: ignore[untyped-decorator]
def _make_routing(mm_token_type_ids: torch.Tensor, adopting: torch.Tensor | None) -> Routing | None:
    types = mm_token_type_ids.detach().cpu()
    by_type = _indices(types)
    adopted: dict[str, torch.Tensor] = {}
    if adopting is not None:
        rows = adopting.detach().cpu()[:, None].expand_as(types)
        adopted = _indices(rows.where(types == TEXT_TOKEN_TYPE_ID, TEXT_TOKEN_TYPE_ID))
        adopted.pop(TEXT)
    if set(by_type) == {TEXT} and not adopted:
        return None
    device = mm_token_type_ids.device
    return Routing(
        tokens={name: index.to(device) for name, index in by_type.items()},
        num_tokens=types.numel(),
        adopted={name: index.to(device) for name, index in adopted.items()},
        stretches={name: stretch_of(index) for name, index in by_type.items()},
    )


def only_modality(mm_token_type_ids: torch.Tensor) -> torch.Tensor:
    """`[B]`: the one modality that a row of types `[B, L]` holds; text where none or several."""
    types = mm_token_type_ids
    highest = types.amax(dim=1)
    lowest = types.where(types != TEXT_TOKEN_TYPE_ID, highest[:, None]).amin(dim=1)
    return highest.where(highest == lowest, TEXT_TOKEN_TYPE_ID)


def _indices(types: torch.Tensor) -> dict[str, torch.Tensor]:
    """Where each modality stands in the flattened types, `text` always among them."""
    names = {modality.token_type_id: modality.name for modality in MODALITIES.values()}
    names[TEXT_TOKEN_TYPE_ID] = TEXT
    present = torch.unique(types).tolist()
    if unknown := [value for value in present if value not in names]:
        raise ModelInputError(
            f"mm_token_type_ids: found {unknown}, expected values among {sorted(names)}. "
            "Use the ids that the processor returns."
        )
    flat = types.reshape(-1)
    wanted = sorted({TEXT_TOKEN_TYPE_ID, *present})
    return {names[value]: (flat == value).nonzero().flatten() for value in wanted}


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
