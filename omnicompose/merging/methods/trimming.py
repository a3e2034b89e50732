"""Trimming by magnitude: which ranks are looked for, and the thresholds found tile by tile.

A rank is counted from the largest magnitude, which is rank 1. The thresholds of one tensor take a
look at a sample and one pass: `sample` counts the upper bits of some magnitudes, which tells about
where each rank falls; `between` counts what lies above and collects what lies there. Where that
fails (many equal magnitudes, a tensor unlike its sample), and for a whole model, whose ranks fall
among too many to collect, two passes of counting give the same: `upper` and `lower`, the two
histograms of `selection`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, prod, sqrt

import numpy as np
import torch

from omnicompose.merging.method import Parameter, TensorGroup
from omnicompose.merging.methods.selection import (
    PREFIXES,
    SUFFIXES,
    Magnitudes,
    kth_largest,
    kth_pattern,
    place_of,
)
from omnicompose.merging.statistics import COLLECTED
from omnicompose.merging.tile_loop import Tile

Statistics = Mapping[str, torch.Tensor]
Ranks = Callable[[int, int], Sequence[int]]
"""(number of the expert, number of entries) -> the ranks whose magnitudes are wanted."""

TENSOR_STAGES = ("sample", "between", "upper", "lower")
SPARE_STAGES = MODEL_STAGES = ("upper", "lower")
DEVIATIONS = 4
"""Standard deviations of the rank of a random sample that are collected on either side."""
MOST_COLLECTED = 0.04
"""Share of a tensor that is collected at most; if the sample has more there, it is counted."""

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


def tile_of(group: TensorGroup) -> Tile:
    """Where a group's tile lies."""
    return Tile(start=group.offset, size=prod(group.shape))


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """The search for the magnitudes at some ranks of every expert's delta.

    Attributes:
        experts: their names.
        ranks: what is looked for.
    """

    experts: tuple[str, ...]
    ranks: Ranks

    def observe(
        self, stage: str, tile: Tile, deltas: Sequence[Magnitudes], statistics: Statistics
    ) -> dict[str, torch.Tensor]:
        """Additive statistics of one tile of all deltas."""
        found: dict[str, torch.Tensor] = {}
        if stage == "sample" and tile.start == 0:
            found["size"] = torch.tensor(tile.size)
        for i, delta in enumerate(deltas):
            found |= self._observe_one(stage, i, delta, statistics)
        return found

    def _observe_one(
        self, stage: str, i: int, delta: Magnitudes, statistics: Statistics
    ) -> dict[str, torch.Tensor]:
        expert = self.experts[i]
        if stage in ("sample", "upper"):
            return {f"{stage}.{expert}": delta.count_prefixes()}
        if stage == "lower":
            upper = statistics[f"upper.{expert}"]
            wanted = self.ranks(i, int(upper.sum()))
            prefixes = [place_of(upper, rank).bin for rank in wanted]
            return {f"lower.{expert}": delta.count_suffixes(prefixes)}
        found: dict[str, torch.Tensor] = {}
        for row, (least, end) in enumerate(self._stretches(i, statistics).tolist()):
            above, inside = delta.split_at(least, end)
            found[f"{COLLECTED}{expert}.{row}"] = inside
            found[f"count.{expert}.{row}"] = torch.tensor([above, inside.numel()])
        return found

    def needs(self, stage: str, statistics: Statistics) -> bool:
        """Whether a stage can still add to what is known."""
        if stage == "sample":
            return True
        known = "stretches" if stage == "between" else "threshold"
        every = all(f"{known}.{expert}" in statistics for expert in self.experts)
        return every if stage == "between" else not every

    def settle(self, stage: str, statistics: Statistics) -> Statistics:
        """The statistics to go on with: what was found in place of what it was found from."""
        if stage == "upper":
            return statistics
        if stage == "sample":
            return self._settle_sample(statistics)
        if stage not in ("between", "lower"):
            return statistics
        found = [self._find(i, statistics) for i in range(len(self.experts))]
        kept = {
            key: value
            for key, value in statistics.items()
            if not key.startswith((COLLECTED, "count.", "upper.", "lower.", "stretches."))
        }
        if all(thresholds is not None for thresholds in found):
            names = (f"threshold.{expert}" for expert in self.experts)
            kept |= {n: torch.tensor(f) for n, f in zip(names, found, strict=True) if f is not None}
        return kept

    def find(self, i: int, statistics: Statistics) -> Sequence[float]:
        """The magnitudes at the ranks of expert `i`, once they have been observed."""
        settled = statistics.get(f"threshold.{self.experts[i]}")
        found = self._find(i, statistics) if settled is None else settled.tolist()
        assert found is not None, "counting finds every rank"
        return found

    def _find(self, i: int, statistics: Statistics) -> list[float] | None:
        expert = self.experts[i]
        if f"lower.{expert}" in statistics:
            upper, lower = statistics[f"upper.{expert}"], statistics[f"lower.{expert}"]
            wanted = self.ranks(i, int(upper.sum()))
            return [kth_largest(upper, lower[row], rank) for row, rank in enumerate(wanted)]
        found = []
        for row, rank in enumerate(self.ranks(i, int(statistics["size"]))):
            above, inside = statistics[f"count.{expert}.{row}"].tolist()
            patterns = statistics[f"{COLLECTED}{expert}.{row}"]
            if not above < rank <= above + inside or patterns.numel() != inside:
                return None
            found.append(kth_pattern(patterns, rank - above))
        return found

    def _settle_sample(self, statistics: Statistics) -> Statistics:
        """The stretches in place of the samples, or nothing if there is too much in them."""
        found = [self._stretches(i, statistics) for i in range(len(self.experts))]
        samples = [statistics[f"sample.{expert}"] for expert in self.experts]
        if not all(_few_in(sample, s) for sample, s in zip(samples, found, strict=True)):
            return {}
        names = (f"stretches.{expert}" for expert in self.experts)
        return {"size": statistics["size"], **dict(zip(names, found, strict=True))}

    def _stretches(self, i: int, statistics: Statistics) -> torch.Tensor:
        """For every rank the bit patterns, from and to, among which the sample expects it."""
        settled = statistics.get(f"stretches.{self.experts[i]}")
        if settled is not None:
            return settled
        sample, size = statistics[f"sample.{self.experts[i]}"], int(statistics["size"])
        return torch.tensor([_stretch(sample, size, rank) for rank in self.ranks(i, size)])


def _stretch(sample: torch.Tensor, size: int, rank: int) -> tuple[int, int]:
    seen = int(sample.sum())
    margin = ceil(DEVIATIONS * 0.5 * sqrt(seen)) if seen < size else 0
    expected = round(rank / size * seen)
    first = place_of(sample, min(max(expected - margin, 1), seen)).bin
    last = place_of(sample, min(max(expected + margin, 1), seen)).bin
    assert sample.numel() == PREFIXES
    return last * SUFFIXES, (first + 1) * SUFFIXES


def _few_in(sample: torch.Tensor, stretches: torch.Tensor) -> bool:
    shares = (
        sample[least // SUFFIXES : end // SUFFIXES].sum() / sample.sum()
        for least, end in stretches.tolist()
    )
    return all(float(share) <= MOST_COLLECTED for share in shares)


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
