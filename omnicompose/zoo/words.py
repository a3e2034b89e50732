"""What can be said of an item: English phrases, the values that make them true, captions."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from omnicompose.zoo.world import NUMBERS, SLOTS, Item

NUMBER_PROPERTIES: dict[str, frozenset[int]] = {
    "even number": frozenset({0, 2, 4, 6, 8}),
    "odd number": frozenset({1, 3, 5, 7, 9}),
    "below five": frozenset({0, 1, 2, 3, 4}),
    "above four": frozenset({5, 6, 7, 8, 9}),
    "prime number": frozenset({2, 3, 5, 7}),
    "square number": frozenset({0, 1, 4, 9}),
    "multiple of three": frozenset({0, 3, 6, 9}),
    "power of two": frozenset({1, 2, 4, 8}),
    "Fibonacci number": frozenset({0, 1, 2, 3, 5, 8}),
    "between two and seven": frozenset({3, 4, 5, 6}),
    "drawn with a loop": frozenset({0, 6, 8, 9}),
    "straight lines only": frozenset({1, 4, 7}),
    "spelled with three letters": frozenset({1, 2, 6}),
}
"""Knowledge about numbers that only the language model has: no medium shows it.

Every phrase begins with a word that no other begins with.
"""

NOUNS = {"image": "picture", "audio": "sound", "video": "clip"}
"""What questions call a medium."""

SLOT_NOUNS: dict[tuple[str, str], str] = {("image", "level"): "height", ("audio", "level"): "pitch"}
"""What questions call a slot where its own name would be poor English in that modality."""

CAPTIONS: dict[str, tuple[str, ...]] = {
    "image": (
        "A {size} {colour} {number}, {level} in the picture.",
        "The number {number} in {colour}, {size} and {level} up.",
        "The picture shows a {colour} {number}. It is {level} and {size}.",
    ),
    "audio": (
        "A voice says {number} at a {level} pitch and a {pace} pace.",
        "Someone with a {level} voice says {number}. The speech is {pace}.",
        "A {pace}, {level} voice is saying the number {number}.",
    ),
    "video": (
        "A {size} {colour} {number} moves {direction} at a {pace} pace.",
        "The number {number} in {colour} is {pace}, {size} and going {direction}.",
        "The clip shows a {pace} {number} that moves {direction}. It is {colour} and {size}.",
    ),
}
"""Sentences that say everything a modality shows; the first is the answer to *describe*."""


def caption(item: Item, style: int = 0) -> str:
    """The sentence of the given style that tells everything `item` shows."""
    return CAPTIONS[item.modality][style].format(
        **{slot: item.word(slot) for slot, _ in item.values}
    )


def slot_noun(modality: str, slot: str) -> str:
    """What a question about `modality` calls `slot`."""
    return SLOT_NOUNS.get((modality, slot), slot)


@lru_cache
def facts(slot: str) -> dict[str, frozenset[int]]:
    """Every phrase about `slot`, with the values of which it is true."""
    words = {word: frozenset({value}) for value, word in enumerate(SLOTS[slot])}
    return words | NUMBER_PROPERTIES if slot == "number" else words


@lru_cache
def slot_of(phrase: str) -> str:
    """The slot that `phrase` speaks about."""
    return next(slot for slot in SLOTS if phrase in facts(slot))


def is_true(phrase: str, item: Item) -> bool:
    """Whether `item`, as its modality shows it, bears out `phrase`."""
    slot = slot_of(phrase)
    return dict(item.values).get(slot) in facts(slot)[phrase]


@lru_cache
def phrases(slot: str, num_items: int) -> tuple[str, ...]:
    """The phrases that an option about `num_items` things may use.

    Several things are never offered a number word: that they all are sevens is no discovery.
    """
    return tuple(p for p in facts(slot) if num_items == 1 or p not in NUMBERS)


@lru_cache
def true_counts(slot: str, num_items: int) -> NDArray[np.int64]:
    """Of how many of `num_items` things each phrase is true, `[phrases, values ** num_items]`.

    A column stands for one assignment of values to the things, in `numpy.unravel_index` order.
    """
    num_values = len(SLOTS[slot])
    truth = np.array(
        [[v in facts(slot)[p] for v in range(num_values)] for p in phrases(slot, num_items)]
    )
    assignments = np.indices((num_values,) * num_items).reshape(num_items, -1)
    return np.asarray(sum(truth[:, values].astype(np.int64) for values in assignments))
