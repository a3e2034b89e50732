"""Statistics that methods gather before they merge: sums that do not depend on who adds first."""

import threading
from collections.abc import Mapping, MutableMapping

import torch

Statistics = Mapping[str, torch.Tensor]


COLLECTED = "each."
"""Statistics whose names begin so are not added up but put one after the other."""


class TiledSum:
    """What the tiles of one tensor give, in their order."""

    def __init__(self, most_collected: int | None = None) -> None:
        """Nothing is added yet.

        Args:
            most_collected: entries that a collected statistic may have; one that outgrows it is
                emptied, so that memory is bounded. Methods count beside what they collect.
        """
        self._most_collected = most_collected
        self._sums: dict[str, torch.Tensor] = {}
        self._pieces: dict[str, list[torch.Tensor]] = {}
        self._lengths: dict[str, int] = {}

    def add(self, found: Statistics) -> None:
        """Add what one more tile gave."""
        add_statistics(self._sums, {k: v for k, v in found.items() if not _is_collected(k)})
        for key in filter(_is_collected, found):
            self._collect(key, found[key])

    def _collect(self, key: str, value: torch.Tensor) -> None:
        length = self._lengths[key] = self._lengths.get(key, 0) + value.numel()
        pieces = self._pieces.setdefault(key, [])
        pieces.append(value)
        if self._most_collected is not None and length > self._most_collected:
            pieces[:] = [value[:0]]

    def result(self) -> Statistics:
        """All sums, and what was collected."""
        return {**self._sums, **{key: torch.cat(found) for key, found in self._pieces.items()}}


def _is_collected(key: str) -> bool:
    return key.startswith(COLLECTED)


def add_statistics(total: MutableMapping[str, torch.Tensor], found: Statistics) -> None:
    """Add `found` to `total` by key."""
    for key, value in found.items():
        if key in total:
            total[key] += value
        else:
            total[key] = value.clone()


class OrderedSum:
    """A sum over many tensors that come in any order and are added in the right one.

    Whole numbers are added as they come; floating-point sums would differ in the last bit.
    """

    def __init__(self) -> None:
        """Nothing is added yet."""
        self.total: dict[str, torch.Tensor] = {}
        self._lock = threading.Lock()
        self._waiting: dict[int, Statistics] = {}
        self._next = 0

    def add(self, number: int, found: Statistics) -> None:
        """Add what tensor `number` gave; every number from 0 on must come once."""
        with self._lock:
            whole = {k: v for k, v in found.items() if not v.is_floating_point()}
            add_statistics(self.total, whole)
            self._waiting[number] = {k: v for k, v in found.items() if k not in whole}
            while self._next in self._waiting:
                add_statistics(self.total, self._waiting.pop(self._next))
                self._next += 1
