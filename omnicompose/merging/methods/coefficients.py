"""Task arithmetic with the coefficients that a search has found, per expert and chunk of a tensor.

    W = W_0 + sum_i c_i (W_i - W_0)        c_i constant on each of k equal runs of the flat tensor

The coefficients of a tensor are `[k]` numbers per expert in files that searching methods write (run
`omnicompose merge` with one of them). Tensors without any take the weights of the recipe. The last
run may be shorter, as `torch.chunk` cuts.
"""

import torch

from omnicompose.merging.method import MergeContext, MethodSpec, TensorGroup
from omnicompose.merging.methods.deltas import deltas
from omnicompose.merging.methods.task_arithmetic import add_weighted_deltas

SPEC = MethodSpec(
    name="coefficients",
    summary="Task arithmetic with found coefficients, one per expert, tensor and chunk.",
    formula="W = W_0 + sum_i c_i (W_i - W_0)",
    paper="folklore",
    needs_base=True,
    granularity="element",
    measures="coefficients",
)


class Coefficients:
    """Weighted sum of deltas, the weights from files."""

    spec = SPEC

    def merge(self, group: TensorGroup, context: MergeContext) -> torch.Tensor:
        """Base plus the sum, fp32."""
        found = [one.total.reshape(-1) for one in group.measured if one is not None]
        if len(found) < len(group.experts):
            return add_weighted_deltas(group, list(group.weights))
        if all(one.numel() == 1 for one in found):
            return add_weighted_deltas(group, [float(one) for one in found])
        places = chunk_numbers(group, max(one.numel() for one in found))
        total = group.base.clone()  # type: ignore[union-attr]  # the spec says that there is one
        for one, delta in zip(found, deltas(group), strict=True):
            total.addcmul_(one[places.clamp(max=one.numel() - 1)].view(delta.shape), delta)
        return total


def chunk_numbers(group: TensorGroup, count: int) -> torch.Tensor:
    """Which of `count` equal runs of the flat tensor each element of this tile lies in."""
    size = torch.Size(group.shape).numel()
    length = -(-size // count)
    tile = group.experts[0].numel()
    return torch.arange(group.offset, group.offset + tile) // length
