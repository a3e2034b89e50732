"""Four options and what they are about, built backwards so that the options betray nothing.

Natural questions (draw things, take a true phrase and three false ones) can be guessed from the
options alone. Here the options come first, and only sets of which *each* option could be the
answer; then the right one, uniformly; then values that make it true and the others false, where
assignments that make the wrong options true of some of the things are preferred. A reader of the
options alone is then at chance exactly, and one thing alone does not suffice.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, product
from math import factorial, prod

import numpy as np
from numpy.typing import NDArray

from omnicompose.zoo.words import phrases, true_counts
from omnicompose.zoo.world import MODALITY_SLOTS, SLOTS, Item, make_item

NUM_OPTIONS = 4
PERCEPTUAL_SHARE = 0.3
"""Chance that an option speaks of a perceptual slot, where the things share one."""
TEMPTATION = 2.0
"""How strongly wrong options are made true of some things: log-odds per option and thing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """Things, four phrases about them, and which of the phrases is true of all.

    Attributes:
        items: the things, one per requested modality and in that order.
        options: the phrases.
        answer_index: the only option that is true of every item.
    """

    items: tuple[Item, ...]
    options: tuple[str, ...]
    answer_index: int


def draw(rng: np.random.Generator, modalities: tuple[str, ...]) -> Draw:
    """Draw options, then the answer, then one thing per modality that makes it so."""
    num_items, slots = len(modalities), shared_slots(modalities)
    chosen = _draw_options(rng, slots, num_items)
    answer = chosen[int(rng.integers(NUM_OPTIONS))]
    columns = {
        slot: _draw_values(rng, slot, num_items, [row for s, row in chosen if s == slot], answer)
        for slot in slots
    }
    order = [chosen[i] for i in rng.permutation(NUM_OPTIONS)]
    return Draw(
        items=tuple(_item(rng, m, columns, place) for place, m in enumerate(modalities)),
        options=tuple(phrases(slot, num_items)[row] for slot, row in order),
        answer_index=order.index(answer),
    )


def shared_slots(modalities: tuple[str, ...]) -> tuple[str, ...]:
    """The slots that every one of `modalities` shows; `number` is always among them."""
    return tuple(s for s in SLOTS if all(s in MODALITY_SLOTS[m] for m in modalities))


@lru_cache
def feasible_sets(slot: str, num_items: int, size: int) -> tuple[tuple[int, ...], ...]:
    """Sets of `size` phrases (rows of `true_counts`) of which each could be the only true one.

    A set smaller than the whole question must also be able to hold no true phrase at all.
    """
    shared = true_counts(slot, num_items) == num_items
    answers_besides = [None] if size < NUM_OPTIONS else []
    return tuple(
        rows
        for rows in combinations(range(len(shared)), size)
        if all(_only(shared[list(rows)], rows, a).any() for a in (*rows, *answers_besides))
    )


@lru_cache
def _splits(
    slots: tuple[str, ...], num_items: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Every feasible way to share the options out over `slots`, with its probability."""
    share = {s: PERCEPTUAL_SHARE / max(len(slots) - 1, 1) for s in slots} | {"number": 1.0}
    if len(slots) > 1:
        share["number"] -= PERCEPTUAL_SHARE
    splits = [
        split
        for split in product(range(NUM_OPTIONS + 1), repeat=len(slots))
        if sum(split) == NUM_OPTIONS
        and all(feasible_sets(s, num_items, size) for s, size in zip(slots, split, strict=True))
    ]
    weights = [
        prod(share[s] ** size / factorial(size) for s, size in zip(slots, split, strict=True))
        for split in splits
    ]
    return np.array(splits), np.array(weights) / np.sum(weights)


def _draw_options(
    rng: np.random.Generator, slots: tuple[str, ...], num_items: int
) -> list[tuple[str, int]]:
    """Four different (slot, phrase row) pairs, each of which could be the answer."""
    splits, probabilities = _splits(slots, num_items)
    split = splits[rng.choice(len(splits), p=probabilities)]
    chosen: list[tuple[str, int]] = []
    for slot, size in zip(slots, split, strict=True):
        sets = feasible_sets(slot, num_items, int(size))
        chosen += [(slot, row) for row in sets[int(rng.integers(len(sets)))]]
    return chosen


def _only(
    shared: NDArray[np.bool_], rows: tuple[int, ...] | list[int], answer: int | None
) -> NDArray[np.bool_]:
    """Which assignments make, of `rows`, exactly `answer` true of all things (None: none)."""
    wanted = np.array([row == answer for row in rows], dtype=bool)
    return np.asarray((shared == wanted[:, None]).all(axis=0))


def _draw_values(
    rng: np.random.Generator,
    slot: str,
    num_items: int,
    rows: list[int],
    answer: tuple[str, int],
) -> tuple[int, ...]:
    """Values of `slot`, one per thing, under which of its `rows` only the answer is shared."""
    held = true_counts(slot, num_items)[rows]
    fits = _only(held == num_items, rows, answer[1] if answer[0] == slot else None)
    weights = fits * np.exp(TEMPTATION * held.sum(axis=0))
    assignment = rng.choice(len(weights), p=weights / weights.sum())
    shape = (len(SLOTS[slot]),) * num_items
    return tuple(int(value) for value in np.unravel_index(assignment, shape))


def _item(
    rng: np.random.Generator, modality: str, columns: dict[str, tuple[int, ...]], place: int
) -> Item:
    """The thing at `place`: shared slots from `columns`, its other slots uniform."""
    values = {
        slot: columns[slot][place] if slot in columns else int(rng.integers(len(SLOTS[slot])))
        for slot in MODALITY_SLOTS[modality]
    }
    return make_item(modality, **values)
