"""The exact k-th largest magnitude of a tensor or a model, found from tiles by counting.

A non-negative fp32 number sorts like its bit pattern. Pass 0 counts the upper 16 bits (a 32768-bin
histogram: the sign bit is 0); the bin that holds the wanted rank is then known. Pass 1 counts the
lower 16 bits inside that bin, which fixes the number. Counts add up over tiles, so neither a sort
nor a whole tensor is ever needed, and the answer is exact.

Counting every number takes long. Where a sample tells about where the rank falls, one pass does:
it counts what is above that stretch and collects what is in it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

PREFIXES = 1 << 15
SUFFIXES = 1 << 16


class Place(NamedTuple):
    """Where a rank falls in a histogram: the bin, and the rank counted inside it (from 1)."""

    bin: int
    rank: int


def magnitude_bits(values: torch.Tensor) -> torch.Tensor:
    """Bit patterns of `|values|`: flat int32 that sorts like the magnitudes."""
    return values.reshape(-1).contiguous().view(torch.int32) & 0x7FFFFFFF


def count_prefixes(values: torch.Tensor) -> torch.Tensor:
    """How many magnitudes fall into each bin of upper 16 bits; int64 `[PREFIXES]`."""
    upper = magnitude_bits(values).bitwise_right_shift_(16)
    return torch.bincount(upper.to(torch.int64), minlength=PREFIXES)


def count_suffixes(values: torch.Tensor, prefixes: Sequence[int]) -> torch.Tensor:
    """Inside each given bin of upper bits, how many per lower 16 bits; int64 `[n, SUFFIXES]`."""
    bits = magnitude_bits(values)
    rows = [_within(bits, prefix) for prefix in prefixes]
    lower = [(row & 0xFFFF).to(torch.int64) for row in rows]
    return torch.stack([torch.bincount(row, minlength=SUFFIXES) for row in lower])


def _within(bits: torch.Tensor, prefix: int) -> torch.Tensor:
    if bits.device.type != "cpu":
        return bits[bits >> 16 == prefix]
    # numpy's comparison and compression of int32 take a quarter of torch's time on a CPU.
    numbers = bits.numpy()
    kept: np.ndarray = numbers[(numbers >> 16) == prefix]
    return torch.from_numpy(kept)


def split_at(values: torch.Tensor, least: int, end: int) -> tuple[int, torch.Tensor]:
    """How many magnitudes have bit patterns from `end` on, and those in `[least, end)`, int32."""
    bits = magnitude_bits(values)
    if bits.device.type != "cpu":
        return int((bits >= end).sum()), bits[(bits >= least) & (bits < end)]
    # numpy compares, counts and compresses in a fraction of torch's time on a CPU.
    numbers = bits.numpy()
    inside, above = numbers >= least, numbers >= end
    num_above = int(np.count_nonzero(above))
    np.logical_xor(inside, above, out=inside)
    return num_above, torch.from_numpy(numbers[np.flatnonzero(inside)])


def kth_pattern(patterns: torch.Tensor, rank: int) -> float:
    """The fp32 number whose bit pattern is the `rank`-th largest of some."""
    position = patterns.numel() - rank
    numbers = patterns.cpu().numpy()
    return float(np.partition(numbers, position)[position : position + 1].view(np.float32)[0])


def place_of(counts: torch.Tensor, rank: int) -> Place:
    """The bin that holds the `rank`-th largest (1 is the largest), and the rank inside it."""
    from_above = counts.flip(0).cumsum(0)
    steps = int(torch.searchsorted(from_above, rank))
    above = int(from_above[steps - 1]) if steps else 0
    return Place(bin=counts.numel() - 1 - steps, rank=rank - above)


def magnitude_at(prefix: int, suffix: int) -> float:
    """The fp32 number with these bits."""
    return float(np.array([prefix << 16 | suffix], dtype=np.uint32).view(np.float32)[0])


def kth_largest(prefix_counts: torch.Tensor, suffix_counts: torch.Tensor, rank: int) -> float:
    """The `rank`-th largest magnitude, from both passes' summed counts."""
    place = place_of(prefix_counts, rank)
    return magnitude_at(place.bin, place_of(suffix_counts, place.rank).bin)
