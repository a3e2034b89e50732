"""Add the experts' deltas to their base.

    W = W_0 + scale * sum_i w_i (W_i - W_0)

    W_0   base          W_i   expert i          w_i   its coefficient, not normalised by default

Paper: "Editing models with task arithmetic", arXiv 2212.04089, section 2. Checked against mergekit
0.1.5 `task_arithmetic` (scale 1), fusion_bench and MLLMerging (scale 0.3 by default). Where we
differ: deltas stay in fp32 (mergekit keeps them in the input's dtype).
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from omnicompose.merging.method import (
    MergeContext,
    MethodSpec,
    Parameter,
    ParameterValue,
    TensorGroup,
)
from omnicompose.merging.methods.deltas import (
    base_of,
    flag,
    normalised,
    number,
)
from omnicompose.merging.tile_loop import Stored, TileLoop

SCALE = Parameter(
    name="scale", default=1.0, description="factor on the merged delta (lambda in the papers)"
)
NORMALIZE = Parameter(
    name="normalize", default=False, description="divide by the sum of the weights"
)

SPEC = MethodSpec(
    name="task_arithmetic",
    summary="Sum of weighted deltas on the base; the reference every other method is held against.",
    formula="W = W_0 + scale * sum_i w_i (W_i - W_0)",
    paper="2212.04089",
    needs_base=True,
    granularity="element",
    parameters=(SCALE, NORMALIZE),
    profiles={"fusion_bench": {"scale": 0.3}, "mllmerging": {"scale": 0.3}},
)


class TaskArithmetic:
    """Weighted sum of deltas."""

    spec = SPEC

    def carries(self, weights: tuple[float, ...], parameters: Mapping[str, ParameterValue]) -> bool:
        """A lone expert may be copied without its base; all others show, if they have a weight."""
        return len(weights) > 1 and 0.0 not in (parameters["scale"], *weights)

    def tile_loop(self, tensor: Stored, context: MergeContext) -> TileLoop:
        """One sum over the stored base and experts."""
        from omnicompose.merging.kernels.sums import weighted_deltas

        coefficients = np.array(_coefficients(tensor.weights, tensor.name, context), np.float32)
        return lambda start, stored, out: weighted_deltas(stored, coefficients, out)

    def merge(self, group: TensorGroup, context: MergeContext) -> torch.Tensor:
        """Base plus the scaled sum, fp32."""
        return add_weighted_deltas(group, _coefficients(group.weights, group.name, context))


def _coefficients(weights: Sequence[float], name: str, context: MergeContext) -> list[float]:
    normalize = flag(context.parameters, "normalize")
    scale = number(context.parameters, "scale")
    return [scale * weight for weight in (normalised(weights, name) if normalize else weights)]


def add_weighted_deltas(group: TensorGroup, coefficients: list[float]) -> torch.Tensor:
    """`W_0 + sum_i coefficients[i] (W_i - W_0)`; equal tensors stay bit-exact."""
    used = [i for i, c in enumerate(coefficients) if c != 0.0]
    if len(used) == 1 and coefficients[used[0]] == 1.0:
        return group.experts[used[0]].clone()
    base = base_of(group)
    if not used:
        return base.clone()
    total = (group.experts[used[0]] - base).mul_(coefficients[used[0]])
    delta = torch.empty_like(total)
    for i in used[1:]:
        total.add_(torch.sub(group.experts[i], base, out=delta), alpha=coefficients[i])
    return torch.add(base, total, out=total)
