"""Trimming by magnitude from counts of tiles: which ranks to look for, and the thresholds found.

Statistics are kept per expert: `upper.<expert>` (pass 0) and `lower.<expert>` (pass 1), the two
histograms of `selection`. A rank is counted from the largest magnitude, which is rank 1.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from omnicompose.merging.method import Parameter, TensorGroup
from omnicompose.merging.methods.selection import (
    PREFIXES,
    count_prefixes,
    count_suffixes,
    kth_largest,
    place_of,
)

Statistics = Mapping[str, torch.Tensor]

DENSITY = Parameter(
    name="density",
    default=0.2,
    description="share of the entries of each delta that is kept",
    minimum=0.0,
    maximum=1.0,
    per_expert=True,
)
COUNTING = Parameter(
    name="counting",
    default="round",
    description="how a share becomes a number of entries, at least one; see the method's file",
    choices=("round", "floor", "paper_code", "mask_rate"),
)

KEPT: Mapping[str, Callable[[float, int], int]] = {
    "round": lambda density, size: round(density * size),
    "floor": lambda density, size: int(density * size),
    "paper_code": lambda density, size: int(density * size) + 1,
    "mask_rate": lambda density, size: size - int((1.0 - density) * size) + 1,
}
"""Counting rules: (density, number of entries) -> entries kept."""


def num_kept(density: float, size: int, counting: str) -> int:
    """How many of `size` entries are kept: at least 1, at most all."""
    return min(max(1, KEPT[counting](density, size)), size)


def observe_upper(group: TensorGroup, moved: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Pass 0: histogram of the upper bits of each expert's magnitudes."""
    return {
        f"upper.{expert}": count_prefixes(delta)
        for expert, delta in zip(group.expert_names, moved, strict=True)
    }


def observe_lower(
    group: TensorGroup,
    moved: Sequence[torch.Tensor],
    statistics: Statistics,
    ranks: Callable[[int, int], Sequence[int]],
) -> dict[str, torch.Tensor]:
    """Pass 1: histograms of the lower bits in the bins of `ranks(expert, size)`."""
    found = {}
    for i, (expert, delta) in enumerate(zip(group.expert_names, moved, strict=True)):
        upper = statistics[f"upper.{expert}"]
        wanted = ranks(i, int(upper.sum()))
        found[f"lower.{expert}"] = count_suffixes(delta, [place_of(upper, r).bin for r in wanted])
    return found


def size_seen(group: TensorGroup, statistics: Statistics, expert: int) -> int:
    """How many entries of an expert were counted: those of the tensor, or of the model."""
    return int(statistics[f"upper.{group.expert_names[expert]}"].sum())


def threshold(
    group: TensorGroup, statistics: Statistics, expert: int, rank: int, row: int = 0
) -> float:
    """The `rank`-th largest magnitude of an expert; `row` is its place among the wanted ranks."""
    name = group.expert_names[expert]
    assert statistics[f"upper.{name}"].numel() == PREFIXES
    return kth_largest(statistics[f"upper.{name}"], statistics[f"lower.{name}"][row], rank)


def keep_from(delta: torch.Tensor, least: float) -> torch.Tensor:
    """The delta where its magnitude is at least `least`, else 0."""
    if least <= 0.0:
        return delta
    # hardshrink keeps what is strictly greater, so it gets the next fp32 number below.
    limit = float(np.nextafter(np.float32(least), np.float32(0.0)))
    return torch.nn.functional.hardshrink(delta, limit)


def keep_up_to(delta: torch.Tensor, most: float) -> torch.Tensor:
    """The delta where its magnitude is at most `most`, else 0."""
    return delta - torch.nn.functional.hardshrink(delta, most)
