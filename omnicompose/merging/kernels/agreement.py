"""Trim deltas, elect a sign per entry, combine the entries that agree (TIES)."""

from typing import NamedTuple

import numpy as np

from omnicompose.merging.kernels.numbers import (
    BLOCK,
    EXPONENT,
    bits,
    compiled,
    fma,
    load,
    rounded,
)

FIRST_KEPT = 3
"""Rows of scratch before those of the experts: votes, totals, supports."""


class Vote(NamedTuple):
    """How kept entries are joined.

    Attributes:
        weights: `[expert]`, fp32.
        scale: factor on the merged delta, fp32.
        takes_mean: divide by the weights of those that agree.
    """

    weights: np.ndarray
    scale: np.float32
    takes_mean: bool


@compiled
def load_trimmed(base: np.ndarray, values: np.ndarray, least: np.float32, kept: np.ndarray) -> None:
    """Fill `kept` with the entries of one block's delta whose magnitude is `least` or more."""
    for i in range(kept.size):
        delta = load(values[i]) - load(base[i])
        # A NaN is kept, as an infinity is, and shows in the result.
        kept[i] = np.float32(0.0) if abs(delta) < least else delta


@compiled
def add_vote(kept: np.ndarray, weight: np.float32, votes: np.ndarray, is_first: bool) -> None:
    """Add one expert's weighted entries."""
    if is_first:
        for i in range(kept.size):
            votes[i] = kept[i] * weight
    else:
        for i in range(kept.size):
            votes[i] = fma(kept[i], weight, votes[i])


@compiled
def add_agreeing(
    kept: np.ndarray,
    weight: np.float32,
    votes: np.ndarray,
    total: np.ndarray,
    support: np.ndarray,
    is_first: bool,
) -> None:
    """Add the magnitudes of the entries that agree with the vote, and the weight behind them."""
    side = np.float32(1.0) if weight >= np.float32(0.0) else np.float32(-1.0)
    size = abs(weight)
    for i in range(kept.size):
        elected = side if votes[i] >= np.float32(0.0) else -side
        agreeing = kept[i] * elected
        agreeing = np.float32(0.0) if agreeing < np.float32(0.0) else agreeing
        # A sum that begins with -0 stays so: nothing is added to the first term.
        total[i] = agreeing * size if is_first else fma(agreeing, size, total[i])
        support[i] += weight if agreeing > np.float32(0.0) else np.float32(0.0)


@compiled
def divide(total: np.ndarray, support: np.ndarray, least_weight: np.float32) -> None:
    """Divide by the support; where nobody agrees the total is 0, and stays so."""
    if least_weight > np.float32(0.0):
        for i in range(total.size):
            total[i] /= support[i] if support[i] > least_weight else least_weight
    else:
        for i in range(total.size):
            total[i] /= support[i] if support[i] != np.float32(0.0) else np.float32(1.0)


@compiled
def join_agreeing(base: np.ndarray, rows: np.ndarray, vote: Vote, target: np.ndarray) -> np.uint32:
    """Merge one block, each expert's kept entries in its row; the largest exponent met.

    Args:
        base: `[element]`, stored.
        rows: fp32 `[FIRST_KEPT + expert, BLOCK]`; the first three are overwritten.
        vote: how to join.
        target: `[element]`, as stored.
    """
    size = target.size
    votes, total, support = rows[0, :size], rows[1, :size], rows[2, :size]
    for expert in range(vote.weights.size):
        add_vote(rows[FIRST_KEPT + expert, :size], vote.weights[expert], votes, expert == 0)
    support[:] = np.float32(0.0)
    for expert in range(vote.weights.size):
        kept = rows[FIRST_KEPT + expert, :size]
        add_agreeing(kept, vote.weights[expert], votes, total, support, expert == 0)
    if vote.takes_mean:
        divide(total, support, vote.weights.min())
    largest = np.uint32(0)
    for i in range(size):
        elected = np.float32(1.0) if votes[i] >= np.float32(0.0) else np.float32(-1.0)
        merged = fma(total[i] * elected, vote.scale, load(base[i]))
        largest = max(largest, np.uint32(bits(merged) & EXPONENT))
        target[i] = rounded(merged, target[i])
    return largest


@compiled
def merge_agreeing(stored: np.ndarray, least: np.ndarray, vote: Vote, out: np.ndarray) -> bool:
    """`W_0 + scale * mean (or sum) of the agreeing, trimmed deltas`; whether it is finite.

    Args:
        stored: `[1 + expert, element]`, the base first; as `kernels` says.
        least: `[expert]`, fp32: the least magnitude that is kept.
        vote: how to join what is kept.
        out: `[element]`, of the dtype of `stored`.
    """
    rows = np.empty((FIRST_KEPT + least.size, BLOCK), np.float32)
    largest = np.uint32(0)
    for start in range(0, stored.shape[1], BLOCK):
        end = min(start + BLOCK, stored.shape[1])
        base = stored[0, start:end]
        for expert in range(least.size):
            kept = rows[FIRST_KEPT + expert, : end - start]
            load_trimmed(base, stored[1 + expert, start:end], least[expert], kept)
        largest = max(largest, join_agreeing(base, rows, vote, out[start:end]))
    return bool(largest != EXPONENT)
