"""Select, calculate, erase (FuseChat's SCE).

    S   = the select_topk share of entries with the largest variance over the experts
    d_i = (W_i - W_0) on S, 0 elsewhere
    v_i = mean(d_i^2) / sum_j mean(d_j^2)
    W   = W_0 + scale * sum_A v_i d_i / sum_A v_i,   A: experts with the sign of sum_j d_j

    W_0   base          W_i   expert i          per tensor

Paper: "FuseChat", arXiv 2408.07990, section 3.3, and FuseChat-3.0. Checked against mergekit 0.1.5
`sce`. Where we differ:
- mergekit's older weights fall back to uniform when the energies sum to less than 1e-6, which
  typical deltas do; ours do so only when nothing moved at all.
- with one expert the variance is 0 everywhere and the reference returns the base; we return the
  expert.
- FuseAI's own code masks only the weights and merges unmasked deltas; paper and mergekit mask both.
- `counting`: mergekit keeps int(select_topk * n) of the n entries with variance above 0 and may
  keep none; we round and keep at least one, and entries that tie with the last.
"""

from collections.abc import Mapping

import torch

from omnicompose.merging.method import (
    MergeContext,
    MethodSpec,
    Parameter,
    ParameterValue,
    Survey,
    TensorGroup,
)
from omnicompose.merging.methods.consensus import elect, merge_agreeing
from omnicompose.merging.methods.deltas import add_to_base, deltas, number, word
from omnicompose.merging.methods.energy import energy_shares, observe_energy
from omnicompose.merging.methods.selection import (
    TensorMagnitudes,
    kth_largest,
    place_of,
)
from omnicompose.merging.methods.task_arithmetic import SCALE
from omnicompose.merging.methods.trimming import num_kept

SPEC = MethodSpec(
    name="sce",
    summary="Keep entries on which experts disagree most, weigh by energy, drop minority signs.",
    formula="W = W_0 + scale * sum_A v_i d_i / sum_A v_i, v_i ~ mean(d_i^2)",
    paper="2408.07990",
    needs_base=True,
    granularity="element",
    num_passes=4,
    weighted=False,
    parameters=(
        Parameter(
            name="select_topk",
            default=1.0,
            description="share of the entries with non-zero variance that is merged",
            minimum=0.0,
            maximum=1.0,
        ),
        Parameter(
            name="counting",
            default="round",
            description="how the share becomes a number of entries",
            choices=("round", "floor"),
        ),
        SCALE,
    ),
    profiles={"mergekit": {"counting": "floor"}, "paper": {"select_topk": 0.1}},
)


class Sce:
    """Select, calculate, erase."""

    spec = SPEC

    def survey(self, parameters: Mapping[str, ParameterValue]) -> Survey:
        """Two passes for the variance threshold if entries are selected, one for the energies."""
        return Survey(num_passes=1 if parameters["select_topk"] == 1.0 else 3)

    def observe(
        self, group: TensorGroup, context: MergeContext, observe_pass: int
    ) -> Mapping[str, torch.Tensor]:
        """Histograms of the variance, then the energies of what is selected."""
        if observe_pass + 1 == self.survey(context.parameters).num_passes:
            return observe_energy(group, _selected(group, context))
        variance = _variance(deltas(group))
        if observe_pass == 0:
            return {
                "upper": TensorMagnitudes(variance).count_prefixes(),
                "nonzero": torch.count_nonzero(variance),
            }
        place = place_of(context.statistics["upper"], _rank(context))
        return {"lower": TensorMagnitudes(variance).count_suffixes([place.bin])}

    def merge(self, group: TensorGroup, context: MergeContext) -> torch.Tensor:
        """Base plus the merged delta, fp32."""
        kept = _selected(group, context)
        shares = energy_shares(group, context.statistics)
        elected = elect(kept, [1.0] * len(kept))
        merged = merge_agreeing(kept, shares, elected)
        return add_to_base(group, merged, number(context.parameters, "scale"))


def _variance(moved: tuple[torch.Tensor, ...]) -> torch.Tensor:
    return torch.stack(moved).var(dim=0, unbiased=False)


def _rank(context: MergeContext) -> int:
    size = int(context.statistics["nonzero"])
    share = number(context.parameters, "select_topk")
    return num_kept(share, size, word(context.parameters, "counting")) if size else 1


def _selected(group: TensorGroup, context: MergeContext) -> tuple[torch.Tensor, ...]:
    moved = deltas(group)
    if len(moved) == 1 or context.parameters["select_topk"] == 1.0:
        return moved
    upper, lower = context.statistics["upper"], context.statistics["lower"]
    selected = (_variance(moved) >= kth_largest(upper, lower[0], _rank(context))).float()
    return tuple(delta * selected for delta in moved)
