"""Where the magnitudes of deltas fall: histograms of their bit patterns, and stretches of them."""

import numpy as np

from omnicompose.merging.kernels.numbers import BLOCK, MAGNITUDE, bits, compiled, load

ROWS = 16
"""Rows that a block is seen as where a few of its numbers are looked for."""


@compiled
def count_prefixes(stored: np.ndarray, expert: int, counts: np.ndarray) -> None:
    """Add to `counts` how many magnitudes of a delta have each pattern of upper 16 bits.

    Args:
        stored: `[1 + expert, element]`, the base first; as `kernels` says.
        expert: whose delta.
        counts: int64 `[32768]`.
    """
    for i in range(stored.shape[1]):
        delta = load(stored[1 + expert, i]) - load(stored[0, i])
        counts[np.uint32(bits(delta) & MAGNITUDE) >> np.uint32(16)] += 1


@compiled
def count_suffixes(stored: np.ndarray, expert: int, prefix: np.uint32, counts: np.ndarray) -> None:
    """Add to `counts` the lower 16 bits of the magnitudes whose upper bits are `prefix`.

    Args:
        stored: `[1 + expert, element]`, the base first; as `kernels` says.
        expert: whose delta.
        prefix: upper 16 bits.
        counts: int64 `[65536]`.
    """
    for i in range(stored.shape[1]):
        delta = load(stored[1 + expert, i]) - load(stored[0, i])
        pattern = np.uint32(bits(delta) & MAGNITUDE)
        if pattern >> np.uint32(16) == prefix:
            counts[pattern & np.uint32(0xFFFF)] += 1


@compiled
def split_deltas(
    stored: np.ndarray, expert: int, least: np.uint32, end: np.uint32, inside: np.ndarray
) -> tuple[int, int]:
    """Sort the magnitudes of a delta into those below, in and above a stretch of bit patterns.

    Args:
        stored: `[1 + expert, element]`, the base first; as `kernels` says.
        expert: whose delta.
        least: first bit pattern of the stretch.
        end: first bit pattern behind it.
        inside: uint32 `[element + 1]`, gets the patterns in the stretch, in no particular order.

    Returns:
        How many are above the stretch, and how many in it.
    """
    patterns = np.empty(BLOCK, np.uint32)
    num_above, num_inside = 0, 0
    for start in range(0, stored.shape[1], BLOCK):
        size = min(BLOCK, stored.shape[1] - start)
        base, values = stored[0, start : start + size], stored[1 + expert, start : start + size]
        above = np.uint32(0)
        for i in range(size):
            pattern = np.uint32(bits(load(values[i]) - load(base[i])) & MAGNITUDE)
            patterns[i] = pattern
            above += np.uint32(pattern >= end)
        num_above += int(above)
        patterns[size:] = end
        num_inside = keep_between(patterns, least, end, inside, num_inside)
    return num_above, num_inside


@compiled
def keep_between(
    patterns: np.ndarray, least: np.uint32, end: np.uint32, inside: np.ndarray, num_inside: int
) -> int:
    """Append the few of one block that are in a stretch; how many there are now.

    The block is seen as `ROWS` rows. Only columns with a hit are looked at one by one: finding
    them takes vector instructions, which compressing a whole block does not.
    """
    num_columns = BLOCK // ROWS
    hits = np.zeros(num_columns, np.uint32)
    columns = np.empty(num_columns + 1, np.uint32)
    width = np.uint32(end - least)
    for row in range(ROWS):
        for column in range(num_columns):
            pattern = patterns[row * num_columns + column]
            hits[column] |= np.uint32(np.uint32(pattern - least) < width)
    num_hit = 0
    for column in range(num_columns):
        # Written always, kept only if the place moves on: a branch here takes far longer.
        columns[num_hit] = column
        num_hit += int(hits[column])
    for number in range(num_hit):
        for row in range(ROWS):
            pattern = patterns[row * num_columns + columns[number]]
            inside[num_inside] = pattern
            num_inside += int(np.uint32(pattern - least) < width)
    return num_inside
