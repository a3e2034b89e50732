"""Statistics that methods gather before they merge: sums that do not depend on who adds first."""

import threading
from collections.abc import Mapping, MutableMapping

import torch

Statistics = Mapping[str, torch.Tensor]


COLLECTED = "each."
"""Statistics whose names begin so are not added up but put one after the other."""


def add_statistics(
    total: MutableMapping[str, torch.Tensor], found: Statistics, most_collected: int | None = None
) -> None:
    """Add `found` to `total` by key.

    Args:
        total: what was found so far.
        found: what one more tile or tensor gave.
        most_collected: entries that a collected statistic may have; one that outgrows it is
            emptied, so that memory is bounded. Methods count beside what they collect.
    """
    for key, value in found.items():
        if key not in total:
            total[key] = value.clone()
        elif key.startswith(COLLECTED):
            total[key] = torch.cat([total[key], value])
        else:
            total[key] += value
        if most_collected is not None and key.startswith(COLLECTED):
            total[key] = total[key] if total[key].numel() <= most_collected else value[:0]


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
