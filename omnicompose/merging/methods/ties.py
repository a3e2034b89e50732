"""TIES: trim each delta to its largest entries, elect a sign per entry, merge those that agree.

    d_i = D_i where |D_i| >= t_i, else 0         t_i: the k-th largest |D_i|
    s   = sgn(sum_i w_i d_i)
    W   = W_0 + scale * sum_{i: sgn d_i = s} w_i d_i / sum_{i: sgn d_i = s} w_i

    D_i   W_i - W_0          w_i   coefficient          k   round(density * number of entries)

Paper: "TIES-Merging", arXiv 2306.01708, algorithm 1. Checked against mergekit 0.1.5 `ties`,
fusion_bench `ties_merging`, MLLMerging and MergeLLM (goldens of all four).

Where we differ, and how to ask for the other:
- `scope: tensor` trims every tensor by itself (mergekit, LLaMA-Factory scripts); `scope: model` has
  one threshold per expert for the whole model, as the paper has.
- `counting`: the paper's code keeps int(density * n) + 1 entries (`paper_code`), mergekit
  int(density * n) (`floor`), MLLMerging n - int((1 - density) * n) + 1 (`mask_rate`). We round,
  keep at least one, and keep entries that tie with the last: the result depends on no order.
- `zero_sign`: entries whose kept deltas cancel exactly. The paper does not say; its code takes the
  sign of the whole vector's majority (`majority`, one more pass), mergekit and we take +.
- mergekit's `rescale: true` (the kept entries get the L1 norm of all) is `rescale: l1`.
- MLLMerging's Qwen script hands one model instead of all to TIES after DARE; that is not copied.
"""

from collections.abc import Mapping
from typing import cast

import torch

from omnicompose.merging.method import (
    MergeContext,
    MethodSpec,
    Parameter,
    ParameterValue,
    Survey,
    TensorGroup,
)
from omnicompose.merging.methods.consensus import COMBINE, Agreement, elect, merge_agreeing
from omnicompose.merging.methods.deltas import add_to_base, deltas, number, per_expert, word
from omnicompose.merging.methods.sparsify import RESCALE, observe_l1, restore_l1
from omnicompose.merging.methods.task_arithmetic import SCALE
from omnicompose.merging.methods.trimming import (
    COUNTING,
    DENSITY,
    keep_from,
    num_kept,
    observe_lower,
    observe_upper,
    size_seen,
    threshold,
)

SPEC = MethodSpec(
    name="ties",
    summary="Trim small entries, elect a sign per entry, average the deltas that agree.",
    formula="W = W_0 + scale * mean_{agreeing} trim(W_i - W_0; density)",
    paper="2306.01708",
    needs_base=True,
    granularity="element",
    num_passes=5,
    parameters=(
        DENSITY,
        SCALE,
        COMBINE,
        COUNTING,
        RESCALE,
        Parameter(
            name="scope",
            default="tensor",
            description="what one threshold spans",
            choices=("tensor", "model"),
        ),
        Parameter(
            name="zero_sign",
            default="positive",
            description="the sign elected where the kept deltas cancel exactly",
            choices=("positive", "majority"),
        ),
    ),
    profiles={
        "paper": {"scope": "model", "counting": "paper_code", "zero_sign": "majority"},
        "mergekit": {"counting": "floor", "density": 1.0},
        "fusion_bench": {
            "scope": "model",
            "counting": "paper_code",
            "zero_sign": "majority",
            "combine": "sum",
            "scale": 0.3,
        },
        "mllmerging": {"counting": "mask_rate", "zero_sign": "majority", "scale": 0.3},
        "mllmerging_internvl": {
            "scope": "model",
            "counting": "mask_rate",
            "zero_sign": "majority",
            "scale": 0.3,
        },
    },
)


class Ties:
    """Trim, elect, merge."""

    spec = SPEC

    def survey(self, parameters: Mapping[str, ParameterValue]) -> Survey:
        """Two passes for the thresholds, one each for L1 norms and for the majority sign."""
        num_passes = len(_stages(parameters))
        whole_model = parameters["scope"] == "model"
        return Survey(num_passes=num_passes, scope="model" if whole_model else "tensor")

    def observe(
        self, group: TensorGroup, context: MergeContext, observe_pass: int
    ) -> Mapping[str, torch.Tensor]:
        """Histograms of magnitudes, then whatever the parameters ask for besides."""
        stage = _stages(context.parameters)[observe_pass]
        moved = deltas(group)
        if stage == "upper":
            return observe_upper(group, moved)
        if stage == "lower":
            return observe_lower(
                group, moved, context.statistics, lambda i, size: [_rank(group, context, i, size)]
            )
        if stage == "l1":
            return observe_l1(group, moved, _trimmed(group, context))
        elected = torch.sign(_weighted_sum(group, _kept(group, context)))
        return {"majority": elected.sum(dtype=torch.float64)}

    def merge(self, group: TensorGroup, context: MergeContext) -> torch.Tensor:
        """Base plus the merged delta of one tile, fp32."""
        kept = _kept(group, context)
        majority = float(context.statistics.get("majority", 0.0))
        elected = elect(kept, group.weights, zero=-1.0 if majority < 0 else 1.0)
        how = cast(Agreement, word(context.parameters, "combine"))
        merged = merge_agreeing(kept, group.weights, elected, how)
        return add_to_base(group, merged, number(context.parameters, "scale"))


def _stages(parameters: Mapping[str, ParameterValue]) -> tuple[str, ...]:
    trims = () if parameters["density"] == 1.0 else ("upper", "lower")
    rescales = ("l1",) if parameters["rescale"] == "l1" and trims else ()
    votes = ("majority",) if parameters["zero_sign"] == "majority" else ()
    return (*trims, *rescales, *votes)


def _rank(group: TensorGroup, context: MergeContext, expert: int, size: int) -> int:
    density = per_expert(group, context, "density")[expert]
    return num_kept(density, size, word(context.parameters, "counting"))


def _trimmed(group: TensorGroup, context: MergeContext) -> list[torch.Tensor]:
    moved = list(deltas(group))
    if context.parameters["density"] == 1.0:
        return moved
    for i, delta in enumerate(moved):
        rank = _rank(group, context, i, size_seen(group, context.statistics, i))
        moved[i] = keep_from(delta, threshold(group, context.statistics, i, rank))
    return moved


def _kept(group: TensorGroup, context: MergeContext) -> list[torch.Tensor]:
    return restore_l1(group, _trimmed(group, context), context.statistics)


def _weighted_sum(group: TensorGroup, tensors: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack([t * w for t, w in zip(tensors, group.weights, strict=True)]).sum(0)
