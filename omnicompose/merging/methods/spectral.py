"""Singular value tools that work on dense deltas and on low-rank factors alike.

Experts that are LoRA adapters have `D_i = s_i B_i A_i`. With `Q_B R_B = qr([B_1 .. B_T])` and
`Q_A R_A = qr([A_1^T .. A_T^T])` every delta is `Q_B C_i Q_A^T` with a small core `C_i`, and a
method that commutes with rotations of rows and columns can run on the cores exactly.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from omnicompose.merging.method import LowRank, Parameter, TensorGroup
from omnicompose.merging.methods.deltas import deltas
from omnicompose.tensors.low_rank import thin

FP64_SIZE = 2048
"""Matrices whose smaller side is at most this are decomposed in fp64."""

NULL_SPACE = Parameter(
    name="null_space",
    default="truncate",
    description="singular values that are rounding noise: leave out, or treat like the others",
    choices=("truncate", "keep"),
)


class Cores(NamedTuple):
    """Deltas in common orthonormal bases: `D_i = left @ cores[i] @ right.T` (None: identity).

    Attributes:
        left: `[out, p]` or None.
        right: `[in, q]` or None.
        cores: one matrix `[p, q]` per expert, times the expert's weight.
        full_rank: the smaller side of the dense deltas.
    """

    left: torch.Tensor | None
    right: torch.Tensor | None
    cores: tuple[torch.Tensor, ...]
    full_rank: int


class Svd(NamedTuple):
    """Thin singular value decomposition: `u @ diag(s) @ v.T`, `s` descending."""

    u: torch.Tensor
    s: torch.Tensor
    v: torch.Tensor


def factors_of(group: TensorGroup) -> tuple[LowRank, ...] | None:
    """Every expert's factors, if all have them and they are thinner than the matrix."""
    return thin(group.factors, group.shape)


def to_cores(group: TensorGroup) -> Cores:
    """The weighted deltas of a 2-D group, in the smallest common bases that are cheap to find."""
    found = factors_of(group)
    if found is None:
        moved = (d * w for d, w in zip(deltas(group), group.weights, strict=True))
        return Cores(None, None, tuple(to_work(delta) for delta in moved), min(group.shape))
    left, _ = torch.linalg.qr(to_work(torch.cat([f.B for f in found], dim=1)))
    right, _ = torch.linalg.qr(to_work(torch.cat([f.A for f in found], dim=0)).T)
    cores = tuple(
        (left.T @ f.B.to(left)) @ (f.A.to(right) @ right) * (f.scale * weight)
        for f, weight in zip(found, group.weights, strict=True)
    )
    return Cores(left, right, cores, min(group.shape))


def from_cores(cores: Cores, core: torch.Tensor) -> torch.Tensor:
    """The dense matrix, fp32, that a core stands for."""
    left = core if cores.left is None else cores.left @ core
    return (left if cores.right is None else left @ cores.right.T).float()


def to_work(matrix: torch.Tensor) -> torch.Tensor:
    """fp64 where a decomposition of this size is affordable in it, else fp32."""
    return matrix.double() if min(matrix.shape) <= FP64_SIZE else matrix.float()


def svd(matrix: torch.Tensor) -> Svd:
    """Thin decomposition."""
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    return Svd(u, s, vh.T)


def tolerance(shape: Sequence[int]) -> float:
    """Singular values below this share of the largest are noise of fp32 inputs."""
    return max(shape) * float(torch.finfo(torch.float32).eps)


def num_significant(s: torch.Tensor, shape: Sequence[int]) -> int:
    """How many singular values stand out from the noise."""
    if s.numel() == 0 or float(s[0]) == 0.0:
        return 0
    return int((s > tolerance(shape) * s[0]).sum())


def head(parts: Svd, count: int) -> Svd:
    """The `count` largest triplets."""
    return Svd(parts.u[:, :count], parts.s[:count], parts.v[:, :count])


def significant(parts: Svd, shape: Sequence[int], null_space: str) -> Svd:
    """The triplets that stand out from the noise; all, if the null space is to be kept."""
    return parts if null_space == "keep" else head(parts, num_significant(parts.s, shape))


def polar(matrix: torch.Tensor, null_space: str = "truncate") -> torch.Tensor:
    """The nearest matrix with orthonormal columns; in the directions that the matrix spans only."""
    parts = svd(matrix)
    if null_space == "truncate":
        parts = head(parts, num_significant(parts.s, matrix.shape))
    return parts.u @ parts.v.T
