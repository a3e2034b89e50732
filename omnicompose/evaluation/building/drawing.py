"""Options first, then the answer, then the inputs: so that options alone betray nothing.

Natural questions (draw inputs, take an attribute that they share and three that they do not) can be
guessed: attributes that are common in the world are common as answers. Here four attributes are
drawn first, and only sets of which *each* could be the answer; then the answer, uniformly; then
inputs for which it is the only attribute that all share, while every other is true of some of them
and every input bears out at least one wrong option. Options alone are then at chance exactly, and
one input alone leaves two candidates or more.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from itertools import product
from operator import and_, or_

import numpy as np

from omnicompose.errors import EvaluationError
from omnicompose.evaluation.building.items import Item, shared_attributes

NUM_OPTIONS = 4
ALL = (1 << NUM_OPTIONS) - 1
MOST_TRIES = 3_000
"""In a row without a new question; then there are no more, or too few to look for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """One question.

    Attributes:
        options: four attributes in the order shown.
        answer: place of the one that all inputs share.
        inputs: one item per modality.
    """

    options: tuple[str, ...]
    answer: int
    inputs: tuple[Item, ...]


@dataclass(frozen=True)
class Stock:
    """Items by modality, and which of them bear out which attribute, as bits of one number.

    Attributes:
        items: by modality, in the order of the question's inputs.
    """

    items: Mapping[str, Sequence[Item]]

    @cached_property
    def attributes(self) -> list[str]:
        """Those that can be asked about."""
        everything = [item for items in self.items.values() for item in items]
        return shared_attributes(everything, self.items)

    @cached_property
    def bits(self) -> dict[str, dict[str, int]]:
        """Modality and attribute to the set of items, bit i for item i."""
        return {
            modality: {
                name: sum(1 << i for i, item in enumerate(items) if name in item.attributes)
                for name in self.attributes
            }
            for modality, items in self.items.items()
        }

    def patterns(self, options: Sequence[str]) -> list[dict[int, int]]:
        """Per modality: which options an item bears out, as a mask, to the set of such items.

        Items that bear out fewer than two of the options would give the answer away.
        """
        found = []
        for modality, items in self.items.items():
            bits = [self.bits[modality][option] for option in options]
            everyone = (1 << len(items)) - 1
            sets = {
                mask: reduce(
                    and_,
                    (b if mask >> i & 1 else everyone & ~b for i, b in enumerate(bits)),
                )
                for mask in range(1, ALL + 1)
                if mask.bit_count() >= 2
            }
            found.append({mask: items_of for mask, items_of in sets.items() if items_of})
        return found


def draw_questions(stock: Stock, count: int, seed: int) -> list[Drawn]:
    """So many different questions, the same for the same seed.

    Raises:
        EvaluationError: the media do not bear out enough different attributes.
    """
    if len(stock.attributes) < NUM_OPTIONS:
        raise EvaluationError(
            f"mcub build: found {len(stock.attributes)} attributes that every modality shows "
            f"({', '.join(stock.attributes) or 'none'}), expected {NUM_OPTIONS} or more. Give more "
            "media, labels, or a lexicon that groups words (animal: dog, cat)."
        )
    rng = np.random.default_rng(seed)
    drawn: dict[tuple[object, ...], Drawn] = {}
    tries = 0
    while len(drawn) < count and tries < MOST_TRIES:
        question = _draw(stock, rng)
        tries += 1
        if question is None:
            continue
        key = (frozenset(question.options), *(item.path for item in question.inputs))
        if key not in drawn:
            drawn[key], tries = question, 0
    if len(drawn) == count:
        return list(drawn.values())
    raise EvaluationError(
        f"mcub build: made {len(drawn)} questions, expected {count}. Ask for fewer, or give more "
        "media whose captions share words."
    )


def _draw(stock: Stock, rng: np.random.Generator) -> Drawn | None:
    chosen = rng.permutation(len(stock.attributes))[:NUM_OPTIONS]
    options = tuple(stock.attributes[i] for i in chosen)
    patterns = stock.patterns(options)
    ways = [list(_ways(patterns, answer)) for answer in range(NUM_OPTIONS)]
    if not all(ways):
        return None
    answer = int(rng.integers(NUM_OPTIONS))
    masks = ways[answer][int(rng.integers(len(ways[answer])))]
    inputs = tuple(
        items[_random_bit(pattern[mask], rng)]
        for items, pattern, mask in zip(stock.items.values(), patterns, masks, strict=True)
    )
    return Drawn(options=options, answer=answer, inputs=inputs)


def _ways(patterns: Sequence[Mapping[int, int]], answer: int) -> Iterator[tuple[int, ...]]:
    """Masks, one per modality, that share the answer alone and together hold every option."""
    fitting = [[mask for mask in pattern if mask >> answer & 1] for pattern in patterns]
    for masks in product(*fitting):
        if reduce(and_, masks) == 1 << answer and reduce(or_, masks) == ALL:
            yield masks


def _random_bit(bits: int, rng: np.random.Generator) -> int:
    """The place of one of the ones, uniformly."""
    places = [i for i in range(bits.bit_length()) if bits >> i & 1]
    return places[int(rng.integers(len(places)))]
