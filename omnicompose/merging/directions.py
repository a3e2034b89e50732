"""Tensors of a bundle with directions: what brings an expert back beside the mean delta.

basis          B [out, p, in] (or [p, in] of a 1-D tensor)
coefficients   C_i [out, p] of one expert
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from omnicompose.merging.derived import Made
from omnicompose.merging.methods.rmm import decomposed


@dataclass(frozen=True, slots=True, kw_only=True)
class RowDirections:
    """Operands base and all experts; the directions, or one expert's coefficients.

    Attributes:
        shape: of the operands.
        count: directions per row.
        expert: whose coefficients; None: the directions themselves.
    """

    shape: tuple[int, ...]
    count: int
    expert: int | None = None
    whole = True
    elements_each = 1

    def make(self, operands: Sequence[torch.Tensor]) -> Made:
        """Flat elements, fp32."""
        base, *experts = (one.view(rows_of(self.shape), -1) for one in operands)
        coefficients, basis = decomposed(torch.stack([one - base for one in experts]), self.count)
        values = basis if self.expert is None else coefficients[self.expert]
        return Made(values.reshape(-1), {})

    def describe(self) -> dict[str, object]:
        """Kind and settings."""
        kind = "row directions" if self.expert is None else "row coefficients"
        return {"kind": kind, "count": self.count, "expert": self.expert}


def rows_of(shape: tuple[int, ...]) -> int:
    """Rows of a tensor; one of fewer than two dimensions is a row."""
    return shape[0] if len(shape) > 1 else 1


def basis_shape(shape: tuple[int, ...], count: int) -> tuple[int, ...]:
    """Of the directions of a tensor."""
    width = torch.Size(shape).numel() // max(rows_of(shape), 1)
    return (rows_of(shape), count, width)


def brought_back(
    coefficients: torch.Tensor, basis: torch.Tensor, shape: tuple[int, ...]
) -> torch.Tensor:
    """What is added to the mean: `C B` per row, in the tensor's shape."""
    return torch.einsum("rp,rpw->rw", coefficients.float(), basis.float()).view(shape)
