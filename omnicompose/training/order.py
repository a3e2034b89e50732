"""In which order a stage sees its records: one list for the whole stage, drawn from the seed.

Because the list is known from the start, a resumed stage goes on exactly where it was killed.
"""

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler

POOL_BATCHES = 32
"""Records are sorted by length within pools of so many batches."""


class ListedOrder(Sampler[int]):
    """Indices in a given order."""

    def __init__(self, indices: Sequence[int]) -> None:
        """Keep the order."""
        self._indices = indices

    def __iter__(self) -> Iterator[int]:
        """From the first to the last."""
        return iter(self._indices)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._indices)


def draw_order(
    lengths: Sequence[int],
    *,
    num_draws: int,
    batch_size: int,
    seed: int,
    shuffle: bool = True,
    group_by_length: bool = True,
) -> list[int]:
    """Indices of records, round by round, `num_draws` of them.

    Args:
        lengths: tokens of every record.
        num_draws: how many are seen in all.
        batch_size: records that become one batch.
        seed: of every round's order.
        shuffle: another random order in each round; else as they stand.
        group_by_length: records of like length into one batch.
    """
    order: list[int] = []
    generator = torch.Generator().manual_seed(seed)
    while len(order) < num_draws:
        if not shuffle:
            order += range(len(lengths))
            continue
        drawn = torch.randperm(len(lengths), generator=generator).tolist()
        order += _grouped(drawn, lengths, batch_size, generator) if group_by_length else drawn
    return order[:num_draws]


def _grouped(
    drawn: Sequence[int], lengths: Sequence[int], batch_size: int, generator: torch.Generator
) -> list[int]:
    """Batches of like length in random order; a round's last, smaller batch stays the last."""
    batches: list[Sequence[int]] = []
    for pool in _cut(drawn, batch_size * POOL_BATCHES):
        batches += _cut(sorted(pool, key=lambda index: lengths[index]), batch_size)
    whole = [batch for batch in batches if len(batch) == batch_size]
    rest = [index for batch in batches if len(batch) < batch_size for index in batch]
    places = torch.randperm(len(whole), generator=generator).tolist()
    return [index for place in places for index in whole[place]] + rest


def _cut(items: Sequence[int], size: int) -> list[Sequence[int]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def num_steps(num_records: int, *, steps: int | None, epochs: float | None, per_step: int) -> int:
    """Optimizer steps of a stage that names either.

    Args:
        num_records: in the stage's files.
        steps: as the stage has it.
        epochs: as the stage has it.
        per_step: records that make up one step.
    """
    if steps is not None:
        return steps
    assert epochs is not None
    return max(1, round(epochs * num_records / per_step))
