"""Per entry, the delta of largest magnitude.

    W = W_0 + scale * d,   d = w_i D_i of the expert i with the largest |w_i D_i| at that entry

    W_0   base          D_i   W_i - W_0          w_i   coefficient

Paper: "MagMax", arXiv 2407.06322, section 4. Checked against fusion_bench `magmax`. Where we
differ: if two deltas are equally large and opposite, the reference takes the later expert; we
take the positive one, so that the order of experts does not matter.
"""

import torch

from omnicompose.merging.method import MergeContext, MethodSpec, TensorGroup
from omnicompose.merging.methods.deltas import add_to_base, deltas, number
from omnicompose.merging.methods.task_arithmetic import SCALE

SPEC = MethodSpec(
    name="magmax",
    summary="Per entry, keep the delta of largest magnitude.",
    formula="W = W_0 + scale * (w_i D_i with the largest magnitude)",
    paper="2407.06322",
    needs_base=True,
    granularity="element",
    parameters=(SCALE,),
    profiles={"fusion_bench": {"scale": 0.5}},
)


class MagMax:
    """Largest delta per entry."""

    spec = SPEC

    def merge(self, group: TensorGroup, context: MergeContext) -> torch.Tensor:
        """Base plus the largest deltas, fp32."""
        moved = [d * w for d, w in zip(deltas(group), group.weights, strict=True)]
        highest, lowest = moved[0].clone(), moved[0].clone()
        for delta in moved[1:]:
            torch.maximum(highest, delta, out=highest)
            torch.minimum(lowest, delta, out=lowest)
        largest = torch.where(highest >= -lowest, highest, lowest)
        return add_to_base(group, largest, number(context.parameters, "scale"))
