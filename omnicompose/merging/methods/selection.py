"""The exact k-th largest magnitude of a tensor or a model, found from tiles by counting.

A non-negative fp32 number sorts like its bit pattern. Pass 0 counts the upper 16 bits (a 32768-bin
histogram: the sign bit is 0); the bin that holds the wanted rank is then known. Pass 1 counts the
lower 16 bits inside that bin, which fixes the number. Counts add up over tiles, so neither a sort
nor a whole tensor is ever needed, and the answer is exact.

Counting every number takes long. Where a sample tells about where the rank falls, one pass does:
it counts what is above that stretch and collects what is in it.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch

PREFIXES = 1 << 15
SUFFIXES = 1 << 16


class Place(NamedTuple):
    """Where a rank falls in a histogram: the bin, and the rank counted inside it (from 1)."""

    bin: int
    rank: int


class Magnitudes(Protocol):
    """The magnitudes of one tile of a delta, to be counted."""

    def count_prefixes(self) -> torch.Tensor:
        """How many fall into each bin of upper 16 bits; int64 `[PREFIXES]`."""
        ...

    def count_suffixes(self, prefixes: Sequence[int]) -> torch.Tensor:
        """Inside each given bin of upper bits, how many per lower 16 bits; `[n, SUFFIXES]`."""
        ...

    def split_at(self, least: int, end: int) -> tuple[int, torch.Tensor]:
        """How many have bit patterns from `end` on, and the patterns in `[least, end)`, int32."""
        ...


class TensorMagnitudes:
    """`Magnitudes` of an fp32 tensor."""

    def __init__(self, delta: torch.Tensor) -> None:
        """Look at a delta's bit patterns: flat int32 that sorts like the magnitudes."""
        self._bits = delta.reshape(-1).contiguous().view(torch.int32) & 0x7FFFFFFF

    def count_prefixes(self) -> torch.Tensor:
        """Of all bins."""
        upper = self._bits >> 16
        return torch.bincount(upper.to(torch.int64), minlength=PREFIXES)

    def count_suffixes(self, prefixes: Sequence[int]) -> torch.Tensor:
        """Of the given bins."""
        rows = [_within(self._bits, prefix) for prefix in prefixes]
        lower = [(row & 0xFFFF).to(torch.int64) for row in rows]
        return torch.stack([torch.bincount(row, minlength=SUFFIXES) for row in lower])

    def split_at(self, least: int, end: int) -> tuple[int, torch.Tensor]:
        """Above a stretch, and in it."""
        if self._bits.device.type != "cpu":
            within = self._bits[(self._bits >= least) & (self._bits < end)]
            return int((self._bits >= end).sum()), within
        # numpy compares, counts and compresses in a fraction of torch's time on a CPU.
        numbers = self._bits.numpy()
        inside, above = numbers >= least, numbers >= end
        num_above = int(np.count_nonzero(above))
        np.logical_xor(inside, above, out=inside)
        return num_above, torch.from_numpy(numbers[np.flatnonzero(inside)])


class StoredMagnitudes:
    """`Magnitudes` of the delta of one expert, from stored numbers by compiled loops."""

    def __init__(self, stored: np.ndarray, expert: int) -> None:
        """Look at row `1 + expert` less row 0 of `[operand, element]`."""
        self._stored, self._expert = stored, expert

    def count_prefixes(self) -> torch.Tensor:
        """Of all bins."""
        from omnicompose.merging.kernels.magnitudes import count_prefixes

        counts = np.zeros(PREFIXES, np.int64)
        count_prefixes(self._stored, self._expert, counts)
        return torch.from_numpy(counts)

    def count_suffixes(self, prefixes: Sequence[int]) -> torch.Tensor:
        """Of the given bins."""
        from omnicompose.merging.kernels.magnitudes import count_suffixes

        counts = np.zeros((len(prefixes), SUFFIXES), np.int64)
        for prefix, row in zip(prefixes, counts, strict=True):
            count_suffixes(self._stored, self._expert, np.uint32(prefix), row)
        return torch.from_numpy(counts)

    def split_at(self, least: int, end: int) -> tuple[int, torch.Tensor]:
        """Above a stretch, and in it."""
        from omnicompose.merging.kernels.magnitudes import split_deltas

        patterns = np.empty(self._stored.shape[1] + 1, np.uint32)
        stretch = np.uint32(least), np.uint32(end)
        above, num_inside = split_deltas(self._stored, self._expert, *stretch, patterns)
        return above, torch.from_numpy(patterns[:num_inside].view(np.int32).copy())


def _within(bits: torch.Tensor, prefix: int) -> torch.Tensor:
    if bits.device.type != "cpu":
        return bits[bits >> 16 == prefix]
    # numpy's comparison and compression of int32 take a quarter of torch's time on a CPU.
    numbers = bits.numpy()
    kept: np.ndarray = numbers[(numbers >> 16) == prefix]
    return torch.from_numpy(kept)


def kth_pattern(patterns: torch.Tensor, rank: int) -> float:
    """The fp32 number whose bit pattern is the `rank`-th largest of some."""
    # Many are equal where the operands were bf16; numpy partitions those far slower than it sorts.
    found = np.sort(patterns.cpu().numpy())[-rank]
    return float(np.array(found, np.int32).view(np.float32))


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
