"""A change of a weight kept as a product of two thin matrices."""

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
