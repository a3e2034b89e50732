"""Spherical interpolation of two experts.

    phi = angle(W_1, W_2), whole tensors flattened
    W   = (sin((1 - t) phi) W_1 + sin(t phi) W_2) / sin(phi)
    W   = (1 - t) W_1 + t W_2                    if |cos(phi)| > 0.9995

    W_1, W_2   the experts (or their deltas, `space: deltas`)          t   0: first, 1: second

Folklore (Shoemake 1985 for rotations). Checked against mergekit 0.1.5 `slerp`, fusion_bench and
MergeLLM. The angle comes from the Gram matrix in fp64, one extra pass; the result is the same.
"""

import math
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
from omnicompose.merging.methods.deltas import number
from omnicompose.merging.methods.geometry import SPACE, gram_matrix, slerp, vectors, weighted

COLLINEAR = math.sin(math.acos(0.9995))
"""Sine of the angle below which interpolation is linear."""

SPEC = MethodSpec(
    name="slerp",
    summary="Spherical interpolation of two experts; keeps their length.",
    formula="W = (sin((1-t) phi) W_1 + sin(t phi) W_2) / sin(phi)",
    paper="folklore",
    needs_base=False,
    arity=(2, 2),
    granularity="element",
    num_passes=2,
    weighted=False,
    parameters=(
        Parameter(
            name="t",
            default=0.5,
            description="0: the first expert, 1: the second",
            minimum=0.0,
            maximum=1.0,
        ),
        SPACE,
    ),
)


class Slerp:
    """Spherical interpolation."""

    spec = SPEC

    def survey(self, parameters: Mapping[str, ParameterValue]) -> Survey:
        """One pass for the angle of a tensor."""
        return Survey(num_passes=1)

    def observe(
        self, group: TensorGroup, context: MergeContext, observe_pass: int
    ) -> Mapping[str, torch.Tensor]:
        """Inner products."""
        return {"gram": gram_matrix(vectors(group, context))}

    def merge(self, group: TensorGroup, context: MergeContext) -> torch.Tensor:
        """The interpolated tensor, fp32."""
        t = number(context.parameters, "t")
        return weighted(group, context, slerp(context.statistics["gram"], t, COLLINEAR))
