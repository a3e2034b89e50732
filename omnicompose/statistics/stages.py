"""Run a model in stages: all that lies before the blocks, each block by itself, the head.

What a block is given beside hidden states (masks, positions, the routing of tokens) does not depend
on any block's weights. One pass in which every block hands its input on tells all of it, and the
first block's input; then blocks run one at a time, and only one needs its weights.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from typing import Protocol, cast

import torch
from torch import nn

from omnicompose.statistics.encoding import Example
from omnicompose.statistics.subject import Subject
from omnicompose.streams.routing import Routing, RoutingSlot

Arguments = tuple[tuple[object, ...], Mapping[str, object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the blocks are given for one example, beside hidden states.

    Attributes:
        arguments: one per block.
        routing: which tokens use which weights; None where all use the same.
    """

    arguments: tuple[Arguments, ...]
    routing: Routing | None


class States(Protocol):
    """Hidden states of examples before each block, kept somewhere."""

    def write(self, block: int, example: int, state: torch.Tensor) -> None:
        """Keep `[1, L, D]`."""
        ...

    def read(self, block: int, example: int) -> torch.Tensor:
        """What was kept."""
        ...


class _ReachedTheEndError(Exception):
    """The last block has been reached."""


class _HandingOn(nn.Module):
    """Stands where a block was: notes what it is given and hands the hidden states on."""

    def __init__(self, block: nn.Module, notes: list[Arguments], note: Callable[[], None]) -> None:
        super().__init__()
        self.__dict__["block"] = block
        self._notes, self._note = notes, note

    def forward(self, hidden: torch.Tensor, *rest: object, **named: object) -> torch.Tensor:
        self._notes.append((rest, named | {"use_cache": False, "past_key_values": None}))
        self._note()
        return hidden

    def __getattr__(self, name: str) -> object:  # type: ignore[override]
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["block"], name)


@torch.no_grad()
def surroundings_of(
    subject: Subject, examples: Sequence[Example], states: States | None
) -> list[Surroundings]:
    """Run everything before the blocks.

    Args:
        subject: the model.
        examples: what to run.
        states: gets the first block's input of every example; None: not wanted.
    """
    head = subject.model.get_output_embeddings()
    behind = (subject.path_of(subject.blocks), subject.path_of(head))
    with subject.holding(("",), but=behind):
        found = []
        for number, example in enumerate(examples):
            first, surroundings = _before_blocks(subject, example)
            found.append(surroundings)
            if states is not None:
                states.write(0, number, first)
        return found


def _before_blocks(subject: Subject, example: Example) -> tuple[torch.Tensor, Surroundings]:
    notes: list[Arguments] = []
    inputs: list[torch.Tensor] = []
    routings: list[Routing | None] = []
    count = len(subject.blocks)

    def note() -> None:
        routings.append(slot.routing if (slot := slot_of(subject)) is not None else None)
        if len(notes) == count:
            raise _ReachedTheEndError

    with _replaced(subject, notes, note) as first:
        handle = first.register_forward_pre_hook(
            lambda _m, args, named: inputs.append(args[0] if args else named["hidden_states"]),
            with_kwargs=True,
        )
        with suppress(_ReachedTheEndError):
            subject.model(**example.inputs, use_cache=False)
        handle.remove()
    return inputs[0], Surroundings(arguments=tuple(notes), routing=routings[0])


@contextmanager
def _replaced(
    subject: Subject, notes: list[Arguments], note: Callable[[], None]
) -> Iterator[nn.Module]:
    blocks = list(subject.blocks)
    stand_ins = [_HandingOn(block, notes, note) for block in blocks]
    for number, stand_in in enumerate(stand_ins):
        subject.blocks[number] = stand_in
    try:
        yield stand_ins[0]
    finally:
        for number, block in enumerate(blocks):
            subject.blocks[number] = block


def slot_of(subject: Subject) -> RoutingSlot | None:
    """Where a composite's layers find the routing; None for other models."""
    return cast(RoutingSlot | None, getattr(subject.model.base_model, "stream_slot", None))


def run_block(
    subject: Subject, number: int, state: torch.Tensor, surroundings: Surroundings
) -> torch.Tensor:
    """What a block makes of hidden states `[1, L, D]`."""
    rest, named = surroundings.arguments[number]
    slot = slot_of(subject)
    with nullcontext() if slot is None else slot.using(surroundings.routing):
        found = subject.blocks[number](state, *rest, **named)
    return cast(torch.Tensor, found[0] if isinstance(found, tuple) else found)


def logits_of(subject: Subject, state: torch.Tensor) -> torch.Tensor:
    """Logits `[1, L, words]` of the last block's output."""
    normed = cast(nn.Module, subject.decoder.norm)(state)
    own = getattr(subject.model, "_logits", None)
    if own is not None:
        return cast(torch.Tensor, own(normed))
    return cast(torch.Tensor, subject.model.get_output_embeddings()(normed))


def with_block(surroundings: Surroundings, **named: object) -> Surroundings:
    """The same, with some arguments of every block changed."""
    changed = tuple((rest, {**given, **named}) for rest, given in surroundings.arguments)
    return replace(surroundings, arguments=changed)
