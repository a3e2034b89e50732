"""RMM: reversible merging; per row of a matrix a mean and a few directions give every expert back.

    row j of all deltas:  X = [D_1[j] .. D_T[j]]^T   [T, in],   m = mean_i D_i[j]
    X - m = C B           C [T, p], B [p, in] with orthonormal rows: the p largest singular triplets
    W[j]  = W_0[j] + m;   expert i gets back  W_0[j] + m + C_i B

With p = 0 every expert gets the mean, with p >= T - 1 itself; in between the squared error is the
sum of the squared singular values left out. Tensors of one dimension are one row.

Paper: "Towards Reversible Model Merging For Low-rank Weights", arXiv 2510.14163, of which abstract,
reviews and a summary could be read (specs/methods.md A.20); no code was at hand. There the vectors
are rows of the LoRA factor A (columns of B), which depends on the factors' gauge; here they are
rows of the deltas, which do not.
"""

import torch

from omnicompose.merging.method import (
    ExpertPart,
    MergeContext,
    MethodSpec,
    Parameter,
    TensorGroup,
)
from omnicompose.merging.methods.deltas import add_to_base, deltas

SPEC = MethodSpec(
    name="rmm",
    summary="A mean and a few directions per row, from which every expert comes back.",
    formula="W = W_0 + mean_i D_i; expert i: W_0 + mean + C_i B, p directions B per row",
    paper="2510.14163",
    needs_base=True,
    weighted=False,
    output="bundle",
    parameters=(
        Parameter(name="directions", default=1, description="kept per row (p)", minimum=0),
    ),
)


class Rmm:
    """Mean and directions."""

    spec = SPEC

    def merge(self, group: TensorGroup, context: MergeContext) -> torch.Tensor:
        """Base plus the mean, fp32."""
        return add_to_base(group, torch.stack(deltas(group)).mean(0))

    def expert_part(self, group: TensorGroup, context: MergeContext, expert: int) -> ExpertPart:
        """The mean whole: directions are added to it by the bundle."""
        return ExpertPart(mask=torch.ones_like(group.experts[0], dtype=torch.bool), scale=1.0)


def decomposed(rows: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Coefficients `[T, out, p]` and directions `[out, p, in]` of deltas `[T, out, in]`.

    Directions that do not exist (p above T - 1) are zero. Of the two signs of a direction the one
    by which its largest coefficient is positive.
    """
    centred = (rows - rows.mean(0)).double().transpose(0, 1)
    gram = centred @ centred.transpose(1, 2)
    values, vectors = torch.linalg.eigh(gram)
    values, vectors = values.flip(1)[:, :count].clamp(min=0.0), vectors.flip(2)[:, :, :count]
    largest = vectors.gather(1, vectors.abs().argmax(1, keepdim=True))
    vectors = vectors * torch.where(largest < 0, -1.0, 1.0)
    sizes = values.sqrt()
    noise = sizes[:, :1] * 1e-6
    inverse = torch.where(sizes > noise, 1.0 / sizes, 0.0)
    basis = (vectors * inverse[:, None]).transpose(1, 2) @ centred
    coefficients = vectors * torch.where(sizes > noise, sizes, 0.0)[:, None]
    missing = count - values.shape[1]
    basis = torch.nn.functional.pad(basis, (0, 0, 0, missing))
    coefficients = torch.nn.functional.pad(coefficients, (0, missing))
    return coefficients.transpose(0, 1).float(), basis.float()
