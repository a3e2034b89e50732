"""A modality's own weights as the merged delta through a one-bit mask (after MMER).

    W = W_0 + m * t        t = W_merged - W_0,  d = W_own - W_0
    m = 1[ |d| > threshold * |t - d| ]  and, if signed,  1[ d * t > 0 ]

At threshold 1 the mask minimises |d - m * t| entry by entry. For a threshold of 1 or more the sign
rule changes nothing; below 1 it does.

Papers: MMER, arXiv 2505.17110, whose text could not be read here: the rule is what its abstract and
reviews determine, with the threshold as in TALL-masks, arXiv 2405.07813 (specs/mmer.md 1.2).
"""

import torch

from omnicompose.merging.method import MergeContext, MethodSpec, Parameter, TensorGroup
from omnicompose.merging.methods.deltas import flag, number

SPEC = MethodSpec(
    name="masked",
    summary="The merged delta where it is nearer to the expert's own than nothing would be.",
    formula="W = W_0 + 1[|d| > threshold |t - d|] t",
    paper="2505.17110",
    needs_base=True,
    arity=(2, 2),
    granularity="element",
    parameters=(
        Parameter(
            name="threshold",
            default=1.0,
            description="how much larger the own delta must be than its distance to the merged one",
            minimum=0.0,
        ),
        Parameter(
            name="signed",
            default=True,
            description="keep an entry only where own and merged delta have one sign",
        ),
    ),
)


class Masked:
    """Two operands: the expert's own weight, then the merged one."""

    spec = SPEC

    def merge(self, group: TensorGroup, context: MergeContext) -> torch.Tensor:
        """Base plus the masked merged delta, fp32, of the operands' shape."""
        base, (own, merged) = group.base, group.experts
        if base is None:
            raise TypeError(f"{group.name}: a mask compares deltas, and there is no base.")
        delta, common = own - base, merged - base
        mask = delta.abs() > number(context.parameters, "threshold") * (common - delta).abs()
        if flag(context.parameters, "signed"):
            mask &= delta * common > 0
        return base + mask * common
