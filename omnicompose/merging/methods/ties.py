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

import numpy as np
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
from omnicompose.merging.methods.selection import StoredMagnitudes, TensorMagnitudes
from omnicompose.merging.methods.sparsify import RESCALE, observe_l1, restore_l1
from omnicompose.merging.methods.task_arithmetic import SCALE
from omnicompose.merging.methods.trimming import (
    COUNTING,
    DENSITY,
    MODEL_STAGES,
    MOST_COLLECTED,
    SPARE_STAGES,
    TENSOR_STAGES,
    Thresholds,
    keep_from,
    num_kept,
    tile_of,
)
from omnicompose.merging.tile_loop import Stored, Tile, TileLoop, TileObserver

SPEC = MethodSpec(
    name="ties",
    summary="Trim small entries, elect a sign per entry, average the deltas that agree.",
    formula="W = W_0 + scale * mean_{agreeing} trim(W_i - W_0; density)",
    paper="2306.01708",
    needs_base=True,
    granularity="element",
    num_passes=7,
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
        """The passes of the thresholds, one each for L1 norms and for the majority sign."""
        stages = _stages(parameters)
        return Survey(
            num_passes=len(stages),
            scope="model" if parameters["scope"] == "model" else "tensor",
            num_sampled=int("sample" in stages),
            num_spare=len(SPARE_STAGES) if "between" in stages else 0,
            collects=MOST_COLLECTED if "between" in stages else 0.0,
        )

    def carries(self, weights: tuple[float, ...], parameters: Mapping[str, ParameterValue]) -> bool:
        """What is not finite is the largest of its delta, so it is kept and wins the vote.

        An L1 norm would carry it into every entry of the tensor.
        """
        return parameters["rescale"] != "l1" and 0.0 not in (parameters["scale"], *weights)

    def tile_observer(
        self, expert_names: tuple[str, ...], context: MergeContext, observe_pass: int
    ) -> TileObserver | None:
        """Magnitudes counted by compiled loops; other passes have none."""
        stage = _stages(context.parameters)[observe_pass]
        if stage not in TENSOR_STAGES:
            return None
        search = _thresholds(expert_names, context)

        def observe(tile: Tile, stored: np.ndarray) -> Mapping[str, torch.Tensor]:
            moved = [StoredMagnitudes(stored, i) for i in range(len(expert_names))]
            return search.observe(stage, tile, moved, context.statistics)

        return observe

    def tile_loop(self, tensor: Stored, context: MergeContext) -> TileLoop | None:
        """Trim, elect and merge in one loop, as long as no majority plays a part."""
        parameters = context.parameters
        if parameters["combine"] == "max" or parameters["zero_sign"] == "majority":
            return None
        from omnicompose.merging.kernels.agreement import Vote, merge_agreeing

        least = np.array(_least_kept(tensor.expert_names, context), np.float32)
        vote = Vote(
            weights=np.array(tensor.weights, np.float32),
            scale=np.float32(number(parameters, "scale")),
            takes_mean=parameters["combine"] == "mean",
        )
        return lambda start, stored, out: merge_agreeing(stored, least, vote, out)

    def observe(
        self, group: TensorGroup, context: MergeContext, observe_pass: int
    ) -> Mapping[str, torch.Tensor]:
        """Counts of magnitudes, then whatever the parameters ask for besides."""
        stage = _stages(context.parameters)[observe_pass]
        moved = deltas(group)
        if stage in TENSOR_STAGES:
            search = _thresholds(group.expert_names, context)
            magnitudes = [TensorMagnitudes(delta) for delta in moved]
            return search.observe(stage, tile_of(group), magnitudes, context.statistics)
        if stage == "l1":
            return observe_l1(group, moved, _trimmed(group, context))
        elected = torch.sign(_weighted_sum(group, _kept(group, context)))
        return {"majority": elected.sum(dtype=torch.float64)}

    def needs(
        self, expert_names: tuple[str, ...], context: MergeContext, observe_pass: int
    ) -> bool:
        """Whether a pass can still add to what is known."""
        stage = _stages(context.parameters)[observe_pass]
        if stage not in TENSOR_STAGES:
            return True
        return _thresholds(expert_names, context).needs(stage, context.statistics)

    def settle(
        self, expert_names: tuple[str, ...], context: MergeContext, observe_pass: int
    ) -> Mapping[str, torch.Tensor]:
        """The thresholds in place of the counts."""
        stage = _stages(context.parameters)[observe_pass]
        return _thresholds(expert_names, context).settle(stage, context.statistics)

    def merge(self, group: TensorGroup, context: MergeContext) -> torch.Tensor:
        """Base plus the merged delta of one tile, fp32."""
        kept = _kept(group, context)
        majority = float(context.statistics.get("majority", 0.0))
        elected = elect(kept, group.weights, zero=-1.0 if majority < 0 else 1.0)
        how = cast(Agreement, word(context.parameters, "combine"))
        merged = merge_agreeing(kept, group.weights, elected, how)
        return add_to_base(group, merged, number(context.parameters, "scale"))


def _stages(parameters: Mapping[str, ParameterValue]) -> tuple[str, ...]:
    stages = MODEL_STAGES if parameters["scope"] == "model" else TENSOR_STAGES
    trims = () if parameters["density"] == 1.0 else stages
    rescales = ("l1",) if parameters["rescale"] == "l1" and trims else ()
    votes = ("majority",) if parameters["zero_sign"] == "majority" else ()
    return (*trims, *rescales, *votes)


def _thresholds(expert_names: tuple[str, ...], context: MergeContext) -> Thresholds:
    densities = per_expert(expert_names, context, "density")
    counting = word(context.parameters, "counting")
    return Thresholds(
        experts=expert_names,
        ranks=lambda i, size: [num_kept(densities[i], size, counting)],
    )


def _least_kept(expert_names: tuple[str, ...], context: MergeContext) -> list[float]:
    """The least magnitude of every expert's delta that is kept."""
    if context.parameters["density"] == 1.0:
        return [0.0] * len(expert_names)
    search = _thresholds(expert_names, context)
    return [search.find(i, context.statistics)[0] for i in range(len(expert_names))]


def _trimmed(group: TensorGroup, context: MergeContext) -> list[torch.Tensor]:
    least = _least_kept(group.expert_names, context)
    return [keep_from(delta, limit) for delta, limit in zip(deltas(group), least, strict=True)]


def _kept(group: TensorGroup, context: MergeContext) -> list[torch.Tensor]:
    return restore_l1(group, _trimmed(group, context), context.statistics)


def _weighted_sum(group: TensorGroup, tensors: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack([t * w for t, w in zip(tensors, group.weights, strict=True)]).sum(0)
