"""LiNeS: scale a merged delta by depth: shallow blocks keep the base, deep blocks their task.

    D = sum_i w_i (W_i - W_0)
    W = W_0 + scale * (alpha + beta * l / (L - 1)) * D          in block l of L
    W = W_0 + scale * alpha * D                                 outside the blocks

    alpha   as given, or (alpha_from: norms)  sum_i ||W_i - W_0||_1 / (T ||D||_1)  over the model

Paper: "LiNeS", arXiv 2410.17146, equations 3 and 4. Checked against the authors' `eval.py`. Any
method's result can be scaled so: this one sums deltas; a recipe can give other methods a
coefficient per layer. Where we differ: with one block the reference divides by 0; ours gets alpha.
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
from omnicompose.merging.methods.deltas import combine, deltas, number
from omnicompose.merging.methods.task_arithmetic import SCALE, add_weighted_deltas

SPEC = MethodSpec(
    name="lines",
    summary="Sum of deltas, growing linearly with depth.",
    formula="W = W_0 + scale * (alpha + beta l / (L - 1)) sum_i w_i (W_i - W_0)",
    paper="2410.17146",
    needs_base=True,
    granularity="element",
    num_passes=2,
    parameters=(
        Parameter(name="alpha", default=0.0, description="factor at the first block", minimum=0.0),
        Parameter(
            name="beta",
            default=1.0,
            description="what is added to alpha by the last block",
            minimum=0.0,
        ),
        Parameter(
            name="alpha_from",
            default="given",
            description="norms: alpha from the L1 norms of the whole model's deltas",
            choices=("given", "norms"),
        ),
        SCALE,
    ),
)


class Lines:
    """Layer-increasing sum of deltas."""

    spec = SPEC

    def survey(self, parameters: Mapping[str, ParameterValue]) -> Survey:
        """One pass over the model if alpha is to come from norms."""
        return Survey(num_passes=int(parameters["alpha_from"] == "norms"), scope="model")

    def observe(
        self, group: TensorGroup, context: MergeContext, observe_pass: int
    ) -> Mapping[str, torch.Tensor]:
        """L1 norms: summed over the experts' deltas, and of the merged delta."""
        moved = deltas(group)
        merged = combine(moved, group.weights).abs().sum(dtype=torch.float64)
        single = torch.stack([delta.abs().sum(dtype=torch.float64) for delta in moved])
        return {"single": single.sum() / len(moved), "merged": merged}

    def merge(self, group: TensorGroup, context: MergeContext) -> torch.Tensor:
        """Base plus the scaled sum, fp32."""
        factor = number(context.parameters, "scale") * depth_factor(group, context)
        return add_weighted_deltas(group, [factor * weight for weight in group.weights])


def depth_factor(group: TensorGroup, context: MergeContext) -> float:
    """`alpha + beta l / (L - 1)` of the group's block."""
    alpha = number(context.parameters, "alpha")
    if context.parameters["alpha_from"] == "norms":
        merged = float(context.statistics["merged"])
        alpha = float(context.statistics["single"]) / merged if merged else 1.0
    if group.layer is None or group.num_layers < 2:
        return alpha
    depth = group.layer / (group.num_layers - 1)
    return alpha + number(context.parameters, "beta") * depth
