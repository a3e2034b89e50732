"""A change of a weight kept as a product of two thin matrices."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class LowRank:
    """A delta kept as a product: `delta = scale * B @ A`.

    Attributes:
        A: `[rank, in]`, fp32.
        B: `[out, rank]`, fp32.
        scale: `alpha / rank` (or `alpha / sqrt(rank)` for rank-stabilised LoRA).
    """

    A: torch.Tensor
    B: torch.Tensor
    scale: float

    @property
    def rank(self) -> int:
        """Rank of the product: rows of A."""
        return self.A.shape[0]


def thin(factors: Sequence[LowRank | None], shape: tuple[int, ...]) -> tuple[LowRank, ...] | None:
    """The factors, if every delta of this shape has them and they are thinner than the matrix.

    Otherwise working on the dense matrices costs no more.
    """
    found = tuple(factor for factor in factors if factor is not None)
    if not found or len(found) < len(factors):
        return None
    return found if sum(factor.rank for factor in found) < min(shape) else None
