"""One expert's weights as they are, or scaled.

    W = scale * W_1

Folklore; as mergekit 0.1.5 `passthrough`. A scale of 1 copies bit for bit.
"""

import torch

from omnicompose.merging.method import MergeContext, MethodSpec, Parameter, TensorGroup
from omnicompose.merging.methods.deltas import combine, number

SPEC = MethodSpec(
    name="passthrough",
    summary="One expert's weights, unchanged or scaled.",
    formula="W = scale * W_1",
    paper="folklore",
    needs_base=False,
    arity=(1, 1),
    granularity="element",
    weighted=False,
    parameters=(Parameter(name="scale", default=1.0, description="factor on the weights"),),
)


class Passthrough:
    """A copy of one expert."""

    spec = SPEC

    def merge(self, group: TensorGroup, context: MergeContext) -> torch.Tensor:
        """The expert's tensor times the scale, fp32."""
        return combine(group.experts, [number(context.parameters, "scale")])
