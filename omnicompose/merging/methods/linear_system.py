"""The one linear system behind RegMean, WUDI, SWUDI and OptMerge, and its spectral solution.

    L(X) = sum_i ||(X - T_i) R_i^T||^2 / n_i          grad L = 2 (X C - D)
    C    = sum_i R_i^T R_i / n_i    [in, in]          D = sum_i T_i R_i^T R_i / n_i    [out, in]

With `C = Q diag(l) Q^T` every linear solver started at X_0 gives

    X = X_0 - X_0 Q f Q^T + D Q (f / l) Q^T

and differs only in its filter f(l): 1 for the exact minimiser, `1 - exp(-l t)` for gradient flow,
and the scalar recurrence of `momentum_filter` for gradient descent with momentum, exactly as its
loop would run. Directions with l = 0 never move.

T_i: targets `[out, in]`. R_i: proxies of the inputs `[any, in]`; for WUDI both are the delta.
C and D are sums over experts: adding or removing an expert is an addition.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch

from omnicompose.merging.method import Parameter, TensorGroup
from omnicompose.merging.methods.deltas import deltas
from omnicompose.merging.methods.spectral import FP64_SIZE, factors_of

Filter = Callable[[torch.Tensor], torch.Tensor]
"""Eigenvalues, ascending -> filter values, of the same shape."""

SAFE_PIVOT = 1e-4
"""Pivots of a Cholesky factor may span so much: its matrix then spans the square of it."""

START = Parameter(
    name="start",
    default="sum",
    description="what is kept in directions that no delta uses, and where a filter starts from",
    choices=("sum", "mean", "zero"),
)


class System(NamedTuple):
    """Sufficient statistics of the loss: `gram` C `[in, in]` and `cross` D `[out, in]`."""

    gram: torch.Tensor
    cross: torch.Tensor


class Rows(NamedTuple):
    """Deltas in an orthonormal basis of their joint row space: `D_i = rows[i] @ basis.T`.

    Attributes:
        basis: `[in, q]`, or None for the identity.
        rows: one `[out, q]` per expert, times the expert's weight.
        width: `in`.
    """

    basis: torch.Tensor | None
    rows: tuple[torch.Tensor, ...]
    width: int


def to_rows(group: TensorGroup, rotate: bool = True) -> Rows:
    """The weighted deltas of a 2-D group in the smallest row basis that is cheap to find.

    Args:
        group: whole tensors.
        rotate: False keeps the basis of the matrix itself, for solvers that depend on it (Adam).
    """
    found = factors_of(group) if rotate else None
    width = group.shape[1]
    if found is not None:
        basis = _basis(torch.cat([f.A for f in found], dim=0))
        factors = zip(found, group.weights, strict=True)
        rows = (f.B.to(basis) @ (f.A.to(basis) @ basis) * (f.scale * w) for f, w in factors)
        return Rows(basis, tuple(rows), width)
    moved = [d * w for d, w in zip(deltas(group), group.weights, strict=True)]
    if not rotate or sum(delta.shape[0] for delta in moved) >= width:
        dtype = torch.float64 if width <= FP64_SIZE else torch.float32
        return Rows(None, tuple(delta.to(dtype) for delta in moved), width)
    basis = _basis(torch.cat(moved, dim=0))
    return Rows(basis, tuple(delta.to(basis) @ basis for delta in moved), width)


def _basis(rows: torch.Tensor) -> torch.Tensor:
    work = rows.double() if rows.shape[0] <= FP64_SIZE else rows.float()
    basis: torch.Tensor = torch.linalg.qr(work.T)[0]
    return basis


def from_rows(rows: Rows, merged: torch.Tensor) -> torch.Tensor:
    """The dense matrix, fp32, `[out, in]`."""
    return (merged if rows.basis is None else merged @ rows.basis.T).float()


def start_of(rows: Sequence[torch.Tensor], start: str) -> torch.Tensor:
    """Sum, mean or zero of the deltas."""
    total = torch.stack(tuple(rows)).sum(0)
    factor = {"sum": 1.0, "mean": 1.0 / len(rows), "zero": 0.0}[start]
    return total * factor


def system(
    targets: Sequence[torch.Tensor], proxies: Sequence[torch.Tensor], norms: Sequence[float]
) -> System:
    """C and D; an expert whose norm is 0 moved nothing and is left out."""
    width, height = targets[0].shape[1], targets[0].shape[0]
    gram = targets[0].new_zeros(width, width)
    cross = targets[0].new_zeros(height, width)
    for target, proxy, norm in zip(targets, proxies, norms, strict=True):
        if norm > 0.0:
            gram.addmm_(proxy.T, proxy, alpha=1.0 / norm)
            cross.addmm_(target @ proxy.T, proxy, alpha=1.0 / norm)
    return System(gram, cross)


def delta_system(rows: Sequence[torch.Tensor]) -> System:
    """WUDI's system: every delta is its own target and its own proxy."""
    return system(rows, rows, [float(row.square().sum()) for row in rows])


def gram_system(targets: Iterable[torch.Tensor], grams: Iterable[torch.Tensor]) -> System:
    """RegMean's system: weights as targets, Grams of the layer's inputs `[in, in]`."""
    pairs = zip(targets, grams, strict=True)
    target, first = next(pairs)
    parts = System(first.clone(), target @ first)
    for target, gram in pairs:
        parts.gram.add_(gram)
        parts.cross.addmm_(target, gram)
    return parts


def minimise(parts: System, start: torch.Tensor) -> torch.Tensor:
    """The exact minimiser; where it is not unique, the one nearest to `start`.

    By a Cholesky factor (a ninth of the arithmetic of eigenvectors) where C is far from singular.
    """
    factor, failed = torch.linalg.cholesky_ex(parts.gram)
    diagonal = factor.diagonal()
    if int(failed) == 0 and bool(diagonal.min() > SAFE_PIVOT * diagonal.max()):
        moved: torch.Tensor = torch.cholesky_solve(parts.cross.T, factor).T
        return moved
    return solve(parts, start, exact_filter)


def solve(parts: System, start: torch.Tensor, spectral_filter: Filter) -> torch.Tensor:
    """The solution from `start` under a filter; directions of C's null space keep the start."""
    values, vectors = torch.linalg.eigh(parts.gram)
    largest = float(values[-1].clamp(min=0.0))
    # Below this share of the largest, an eigenvalue of fp32 data is rounding noise squared.
    noise = values.numel() * float(torch.finfo(torch.float32).eps)
    used = values > largest * min(noise**2, 1e-8)
    filtered = torch.where(used, spectral_filter(values.clamp(min=0.0)), 0.0)
    inverse = torch.where(used, filtered / values, 0.0)
    moved = (parts.cross @ vectors) * inverse - (start @ vectors) * filtered
    merged: torch.Tensor = start + moved @ vectors.T
    return merged


def loss(
    merged: torch.Tensor,
    targets: Sequence[torch.Tensor],
    proxies: Sequence[torch.Tensor],
    norms: Sequence[float],
) -> float:
    """`L(merged)`; experts with norm 0 left out."""
    terms = zip(targets, proxies, norms, strict=True)
    return sum(float(((merged - t) @ r.T).square().sum()) / n for t, r, n in terms if n > 0.0)


def exact_filter(values: torch.Tensor) -> torch.Tensor:
    """Filter of the exact minimiser."""
    return torch.ones_like(values)


def flow_filter(time: float) -> Filter:
    """Filter of gradient flow on L / 2 for a time."""
    return lambda values: -torch.expm1(-values * time)


def momentum_filter(learning_rate: float, momentum: float, num_steps: int) -> Filter:
    """Filter of heavy-ball gradient descent, its loop run on one number per direction.

    The error of a direction with eigenvalue l obeys `v <- momentum v + 2 l e`,
    `e <- e - learning_rate v`, from e = 1, v = 0; the filter is 1 - e.
    """

    def spectral_filter(values: torch.Tensor) -> torch.Tensor:
        error, velocity = torch.ones_like(values), torch.zeros_like(values)
        for _ in range(num_steps):
            velocity = momentum * velocity + 2.0 * values * error
            error = error - learning_rate * velocity
        return 1.0 - error

    return spectral_filter


def top_filter(inner: Filter, count: int, width: int) -> Filter:
    """`inner` on the `count` largest of `width` eigenvalues, 0 on the others."""

    def spectral_filter(values: torch.Tensor) -> torch.Tensor:
        kept = torch.zeros_like(values)
        kept[values.numel() - min(count, width, values.numel()) :] = 1.0
        return inner(values) * kept

    return spectral_filter


def adam(parts: System, start: torch.Tensor, learning_rate: float, num_steps: int) -> torch.Tensor:
    """Adam (betas .9 and .999, eps 1e-8) on the loss; its steps are absolute, not relative.

    Only C and D are needed: `2 out in^2` multiplications a step instead of `4 T out^2 in`.
    """
    merged, mean, square = start.clone(), torch.zeros_like(start), torch.zeros_like(start)
    for step in range(1, num_steps + 1):
        slope = torch.addmm(parts.cross, merged, parts.gram, beta=-2.0, alpha=2.0)
        mean.lerp_(slope, 0.1)
        square.mul_(0.999).addcmul_(slope, slope, value=0.001)
        size = (square / (1.0 - 0.999**step)).sqrt_().add_(1e-8)
        merged.addcdiv_(mean, size, value=-learning_rate / (1.0 - 0.9**step))
    return merged
