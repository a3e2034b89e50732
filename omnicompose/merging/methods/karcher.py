"""Karcher mean: the point on the sphere with the least squared angles to all experts.

    u   <- cos|T| u + sin|T| T / |T|,    T = sum_i v_i (phi_i / sin phi_i) (u_i - cos(phi_i) u)
    W   = (sum_i v_i ||W_i||) * u

    u_i   W_i / ||W_i||          phi_i   angle(u, u_i)          v_i   w_i / sum_j w_j

Folklore (Karcher 1977). Checked against mergekit 0.1.5 `karcher`, which has equal weights only.
Where we differ: the iteration runs on the coefficients of the u_i, in fp64, through their Gram
matrix; mergekit starts from the same mean. On weights (not deltas) experts of one base point nearly
the same way, and all that changes is the length of the base's part: `space: deltas` is advised.
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
from omnicompose.merging.methods.deltas import normalised, number
from omnicompose.merging.methods.geometry import (
    SPACE,
    gram_matrix,
    karcher_mean,
    vectors,
    weighted,
)

SPEC = MethodSpec(
    name="karcher",
    summary="Spherical centre of mass of the experts, times their mean length.",
    formula="W = (sum_i v_i |W_i|) argmin_u sum_i v_i angle(u, W_i)^2",
    paper="folklore",
    needs_base=False,
    granularity="element",
    num_passes=2,
    parameters=(
        Parameter(
            name="max_steps", default=10, description="most steps of the iteration", minimum=1
        ),
        Parameter(
            name="tolerance",
            default=1e-5,
            description="a step shorter than this (radians) is the last",
            minimum=0.0,
        ),
        SPACE,
    ),
)


class Karcher:
    """Spherical centre of mass."""

    spec = SPEC

    def survey(self, parameters: Mapping[str, ParameterValue]) -> Survey:
        """One pass for the angles of a tensor."""
        return Survey(num_passes=1)

    def observe(
        self, group: TensorGroup, context: MergeContext, observe_pass: int
    ) -> Mapping[str, torch.Tensor]:
        """Inner products."""
        return {"gram": gram_matrix(vectors(group, context))}

    def merge(self, group: TensorGroup, context: MergeContext) -> torch.Tensor:
        """The Karcher mean, fp32."""
        gram = context.statistics["gram"]
        weights = gram.new_tensor(normalised(group.weights, group.name))
        steps = int(number(context.parameters, "max_steps"))
        mean = karcher_mean(gram, weights, steps, number(context.parameters, "tolerance"))
        return weighted(group, context, mean)
