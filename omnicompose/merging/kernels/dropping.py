"""Drop entries of deltas at random, rescale the rest, then add them up or put them to the vote."""

from typing import NamedTuple

import numpy as np

from omnicompose.merging.kernels.agreement import FIRST_KEPT, Vote, join_agreeing
from omnicompose.merging.kernels.draws import draw, num_words
from omnicompose.merging.kernels.numbers import (
    BLOCK,
    EXPONENT,
    bits,
    compiled,
    fma,
    load,
    rounded,
)


class Drops(NamedTuple):
    """What is dropped of every expert's delta.

    Attributes:
        keys: `[expert, 2]`, uint64: the lower and the upper half of each tensor's key.
        limits: `[expert]`, uint32: where 32 random bits are below, an entry is kept.
        keeps_all: `[expert]`: all entries are, and nothing is drawn.
        divisors: `[expert]`, fp32: what is kept is divided by it.
    """

    keys: np.ndarray
    limits: np.ndarray
    keeps_all: np.ndarray
    divisors: np.ndarray


@compiled
def load_kept(
    base: np.ndarray, values: np.ndarray, draws: np.ndarray, limit: np.uint32, kept: np.ndarray
) -> None:
    """Fill `kept` with one block's delta, 0 (of its sign) where a draw is `limit` or more."""
    for i in range(kept.size):
        # Not left out but multiplied: what is not finite stays so.
        mask = np.float32(1.0) if draws[i] < limit else np.float32(0.0)
        kept[i] = (load(values[i]) - load(base[i])) * mask


@compiled
def load_delta(base: np.ndarray, values: np.ndarray, kept: np.ndarray) -> None:
    """Fill `kept` with one block's delta."""
    for i in range(kept.size):
        kept[i] = load(values[i]) - load(base[i])


@compiled
def load_dropped(
    start: int,
    begin: int,
    stored: np.ndarray,
    drops: Drops,
    kept_rows: np.ndarray,
    words: np.ndarray,
) -> None:
    """Fill `kept_rows` with what is left of every expert's delta in one block.

    Args:
        start: the tile's first element in the flattened tensor.
        begin: the block's first element in the tile.
        stored: `[1 + expert, element]`: the tile, the base first.
        drops: what is dropped.
        kept_rows: `[expert, BLOCK]`, fp32.
        words: `[num_words(BLOCK)]`, uint64: scratch.
    """
    end = min(begin + BLOCK, stored.shape[1])
    base = stored[0, begin:end]
    for expert in range(drops.limits.size):
        values, kept = stored[1 + expert, begin:end], kept_rows[expert, : end - begin]
        if drops.keeps_all[expert]:
            load_delta(base, values, kept)
        else:
            skipped = draw(drops.keys[expert], start + begin, kept.size, words)
            draws = words.view(np.uint32)[skipped : skipped + kept.size]
            load_kept(base, values, draws, drops.limits[expert], kept)
        kept /= drops.divisors[expert]


@compiled
def merge_dropped(
    start: int, stored: np.ndarray, drops: Drops, vote: Vote, out: np.ndarray
) -> bool:
    """`W_0 + scale * mean (or sum) of what agrees of the kept entries`; whether it is finite.

    Args:
        start: the tile's first element in the flattened tensor.
        stored: `[1 + expert, element]`, the base first; as `kernels` says.
        drops: what is dropped.
        vote: how to join what is kept.
        out: `[element]`, of the dtype of `stored`.
    """
    rows = np.empty((FIRST_KEPT + drops.limits.size, BLOCK), np.float32)
    words = np.empty(num_words(BLOCK), np.uint64)
    largest = np.uint32(0)
    for begin in range(0, stored.shape[1], BLOCK):
        end = min(begin + BLOCK, stored.shape[1])
        load_dropped(start, begin, stored, drops, rows[FIRST_KEPT:], words)
        largest = max(largest, join_agreeing(stored[0, begin:end], rows, vote, out[begin:end]))
    return bool(largest != EXPONENT)


@compiled
def add_dropped(
    start: int,
    stored: np.ndarray,
    drops: Drops,
    weights: np.ndarray,
    scale: np.float32,
    out: np.ndarray,
) -> bool:
    """`W_0 + scale * sum_i weights[i] * kept entries of expert i`; whether it is finite.

    Args:
        start: the tile's first element in the flattened tensor.
        stored: `[1 + expert, element]`, the base first; as `kernels` says.
        drops: what is dropped.
        weights: `[expert]`, fp32.
        scale: factor on the sum.
        out: `[element]`, of the dtype of `stored`.
    """
    kept = np.empty((weights.size, BLOCK), np.float32)
    words = np.empty(num_words(BLOCK), np.uint64)
    largest = np.uint32(0)
    for begin in range(0, stored.shape[1], BLOCK):
        end = min(begin + BLOCK, stored.shape[1])
        base, target = stored[0, begin:end], out[begin:end]
        load_dropped(start, begin, stored, drops, kept, words)
        total = kept[0, : end - begin]
        total *= weights[0]
        for expert in range(1, weights.size):
            term, weight = kept[expert, : end - begin], weights[expert]
            for i in range(total.size):
                total[i] = fma(term[i], weight, total[i])
        for i in range(total.size):
            merged = fma(total[i], scale, load(base[i]))
            largest = max(largest, np.uint32(bits(merged) & EXPONENT))
            target[i] = rounded(merged, target[i])
    return bool(largest != EXPONENT)
