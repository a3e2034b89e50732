"""Sign election and disjoint merge: per entry, only deltas with the elected sign count.

    s  = sgn(sum_i w_i d_i)                      (sum 0: the `zero` rule)
    A  = {i: sgn(d_i) = s}                       (a delta of 0 never agrees)
    mean: sum_A w_i d_i / sum_A w_i     sum: sum_A w_i d_i     max: s * max_A |w_i d_i|

Paper: "TIES-Merging", arXiv 2306.01708, section 4 (elect, disjoint merge).
"""

from collections.abc import Sequence
from typing import Literal

import torch

from omnicompose.merging.method import Parameter

Agreement = Literal["mean", "sum", "max"]

COMBINE = Parameter(
    name="combine",
    default="mean",
    description="what becomes of the entries that agree with the elected sign",
    choices=("mean", "sum", "max"),
)


def elect(
    tensors: Sequence[torch.Tensor], weights: Sequence[float], zero: float = 1.0
) -> torch.Tensor:
    """The elected sign of every entry as fp32 +1 or -1; `zero` (+1 or -1) where the sum is 0."""
    total = tensors[0] * weights[0]
    for tensor, weight in zip(tensors[1:], weights[1:], strict=True):
        total.add_(tensor, alpha=weight)
    # Comparing into a float tensor is five times faster than going through bool on a CPU.
    compare = torch.ge if zero >= 0 else torch.gt
    return compare(total, 0.0, out=total).mul_(2.0).sub_(1.0)


def merge_agreeing(
    tensors: Sequence[torch.Tensor],
    weights: Sequence[float],
    elected: torch.Tensor,
    how: Agreement = "mean",
) -> torch.Tensor:
    """Combine the entries whose sign is the elected one; fp32, 0 where none agrees."""
    if how == "max":
        return _largest(tensors, weights, elected)
    total, support, agreeing = (torch.empty_like(elected) for _ in range(3))
    for i, (tensor, weight) in enumerate(zip(tensors, weights, strict=True)):
        # A negative weight turns its delta's vote round, so that agreement is that of w_i d_i.
        torch.mul(tensor, elected if weight >= 0 else -elected, out=agreeing).clamp_(min=0.0)
        _add(total, agreeing, abs(weight), first=i == 0)
        if how == "mean":
            _add(support, torch.gt(agreeing, 0.0, out=agreeing), weight, first=i == 0)
    if how == "mean":
        total.div_(_without_zeros(support, weights, agreeing))
    return total.mul_(elected)


def _add(total: torch.Tensor, term: torch.Tensor, weight: float, *, first: bool) -> None:
    if first:
        torch.mul(term, weight, out=total)
    else:
        total.add_(term, alpha=weight)


def _without_zeros(
    support: torch.Tensor, weights: Sequence[float], scratch: torch.Tensor
) -> torch.Tensor:
    """The support; where nobody agrees, the total is 0 as well: 0 / x instead of 0 / 0."""
    if min(weights) > 0.0:
        return support.clamp_(min=min(weights))
    return support.add_(torch.eq(support, 0.0, out=scratch))


def _largest(
    tensors: Sequence[torch.Tensor], weights: Sequence[float], elected: torch.Tensor
) -> torch.Tensor:
    largest = torch.zeros_like(elected)
    for tensor, weight in zip(tensors, weights, strict=True):
        torch.maximum(largest, (tensor * elected).mul_(weight), out=largest)
    return largest.mul_(elected)
