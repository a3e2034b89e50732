"""Weigh every expert by how much it moved the matrix (FuseChat's VaRM).

    v_i = mean((W_i - W_0)^2) / sum_j mean((W_j - W_0)^2)          per tensor
    W   = W_0 + scale * sum_i v_i (W_i - W_0)

    W_0   base          W_i   expert i

Paper: "FuseChat" (first version), arXiv 2402.16107, section 3.3 (variation ratio merging, matrix
granularity). No golden; checked by hand (mean squares 1 : 4 give weights 0.2 and 0.8).
"""

from collections.abc import Mapping

import torch

from omnicompose.merging.method import (
    MergeContext,
    MethodSpec,
    ParameterValue,
    Survey,
    TensorGroup,
)
from omnicompose.merging.methods.deltas import deltas, number
from omnicompose.merging.methods.energy import energy_shares, observe_energy
from omnicompose.merging.methods.task_arithmetic import SCALE, add_weighted_deltas

SPEC = MethodSpec(
    name="varm",
    summary="Average with weights that follow how much each expert moved the tensor.",
    formula="W = W_0 + scale * sum_i v_i (W_i - W_0), v_i ~ mean((W_i - W_0)^2)",
    paper="2402.16107",
    needs_base=True,
    granularity="element",
    num_passes=2,
    weighted=False,
    parameters=(SCALE,),
)


class Varm:
    """Variation ratio merging."""

    spec = SPEC

    def survey(self, parameters: Mapping[str, ParameterValue]) -> Survey:
        """One pass for the energies of a tensor's deltas."""
        return Survey(num_passes=1)

    def observe(
        self, group: TensorGroup, context: MergeContext, observe_pass: int
    ) -> Mapping[str, torch.Tensor]:
        """Sum of squares of each delta."""
        return observe_energy(group, deltas(group))

    def merge(self, group: TensorGroup, context: MergeContext) -> torch.Tensor:
        """Base plus the weighted deltas, fp32."""
        scale = number(context.parameters, "scale")
        shares = energy_shares(group, context.statistics)
        return add_weighted_deltas(group, [scale * share for share in shares])
