"""Weighted average of the experts' weights (a model soup).

    W = sum_i w_i W_i / sum_i w_i          (normalize: false leaves out the division)

    W_i   weight of expert i               w_i   its coefficient in the recipe

Paper: "Model soups", arXiv 2203.05482. Checked against mergekit 0.1.5 `linear` and fusion_bench
`simple_average`, `weighted_average`. Both sum in the order given, in fp32; so do we. Where we
differ: an expert with weight 0 is not read, and a lone weight of 1 copies its expert bit for bit.
"""

from collections.abc import Mapping

import numpy as np
import torch

from omnicompose.merging.method import (
    MergeContext,
    MethodSpec,
    Parameter,
    ParameterValue,
    TensorGroup,
)
from omnicompose.merging.methods.deltas import combine, flag, normalised
from omnicompose.merging.tile_loop import Stored, TileLoop

SPEC = MethodSpec(
    name="linear",
    summary="Weighted average of the experts' weights; needs no base.",
    formula="W = sum_i w_i W_i / sum_i w_i",
    paper="2203.05482",
    needs_base=False,
    granularity="element",
    parameters=(
        Parameter(
            name="normalize",
            default=True,
            description="divide by the sum of the weights",
        ),
    ),
)


class Linear:
    """Weighted average."""

    spec = SPEC

    def carries(self, weights: tuple[float, ...], parameters: Mapping[str, ParameterValue]) -> bool:
        """An expert without weight is not read; all others show."""
        return 0.0 not in weights

    def tile_loop(self, tensor: Stored, context: MergeContext) -> TileLoop:
        """One sum over the stored experts."""
        from omnicompose.merging.kernels.sums import weighted_sum

        normalize = flag(context.parameters, "normalize")
        used = normalised(tensor.weights, tensor.name) if normalize else tensor.weights
        coefficients = np.array(used, np.float32)
        return lambda start, stored, out: weighted_sum(stored, coefficients, out)

    def merge(self, group: TensorGroup, context: MergeContext) -> torch.Tensor:
        """The average, fp32, of the experts' shape."""
        normalize = flag(context.parameters, "normalize")
        weights = normalised(group.weights, group.name) if normalize else group.weights
        return combine(group.experts, weights)
