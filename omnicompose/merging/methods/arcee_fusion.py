"""Take over an expert's most important changes only.

    q_r = sum_j p_rj log(p_rj / b_rj),  p, b = softmax of row r of W_1, W_0 (plus 1e-8)
    s   = |W_1 - W_0| * q_r                                importance of an entry
    W   = W_0 + (W_1 - W_0) where s >= median(s) + 1.5 (Q3 - Q1)

    W_0   base          W_1   the expert          per tensor

Source: Arcee Fusion (no paper). Checked against mergekit 0.1.5 `arcee_fusion`. Where we differ: the
reference estimates the quartiles of large tensors from a random sample of one million entries; ours
are exact, so the result is the same every time. Row softmax needs whole tensors.
"""

import torch

from omnicompose.merging.method import MergeContext, MethodSpec, TensorGroup
from omnicompose.merging.methods.deltas import add_to_base, base_of, deltas

SPEC = MethodSpec(
    name="arcee_fusion",
    summary="Take over an expert's changes where they matter most, by size and row divergence.",
    formula="W = W_0 + (W_1 - W_0) [ s >= median(s) + 1.5 IQR(s) ], s = |W_1 - W_0| KL(row)",
    paper="folklore",
    needs_base=True,
    arity=(1, 1),
    weighted=False,
)


class ArceeFusion:
    """Delta of one expert, masked by importance."""

    spec = SPEC

    def merge(self, group: TensorGroup, context: MergeContext) -> torch.Tensor:
        """Base plus the important part of the delta, fp32."""
        importance = importance_of(group.experts[0], base_of(group))
        ordered = importance.flatten().sort().values
        low, middle, high = (
            ordered[int(share * (ordered.numel() - 1))] for share in (0.25, 0.5, 0.75)
        )
        important = importance >= middle + 1.5 * (high - low)
        return add_to_base(group, deltas(group)[0] * important)


def importance_of(expert: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
    """Size of every change times how far its row's softmax moved."""
    ours = expert.softmax(dim=-1) + 1e-8
    theirs = base.softmax(dim=-1) + 1e-8
    divergence = (ours * (ours / theirs).log()).sum(dim=-1, keepdim=True)
    return (expert - base).abs() * divergence
