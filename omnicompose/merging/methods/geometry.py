"""Spherical averages in the coordinates of the tensors themselves.

Every spherical method returns a combination `sum_i c_i x_i` of its inputs, and its coefficients
depend on the inputs only through their Gram matrix `G_ij = <x_i, x_j>`. The Gram matrix adds up
over tiles, so angles of whole tensors are found in one pass without holding any.

All functions here take `gram`, fp64 `[T, T]`, and give fp64 coefficients `[T]`.
"""

from collections.abc import Sequence

import torch

from omnicompose.errors import MergeError
from omnicompose.merging.method import MergeContext, Parameter, TensorGroup
from omnicompose.merging.methods.deltas import add_to_base, combine, deltas

SPACE = Parameter(
    name="space",
    default="weights",
    description="what is averaged on the sphere: the weights, or their deltas from the base",
    choices=("weights", "deltas"),
)


def vectors(group: TensorGroup, context: MergeContext) -> tuple[torch.Tensor, ...]:
    """What is averaged: the experts, or their deltas."""
    return deltas(group) if context.parameters["space"] == "deltas" else group.experts


def gram_matrix(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Inner products of flattened tensors, fp64 `[T, T]`."""
    # fp64: near-equal experts have cosines that differ from 1 by less than fp32 resolves.
    rows = torch.stack([tensor.reshape(-1).double() for tensor in tensors])
    return rows @ rows.T


def weighted(group: TensorGroup, context: MergeContext, coefficients: torch.Tensor) -> torch.Tensor:
    """The combination with these coefficients, base added for deltas; fp32."""
    combined = combine(vectors(group, context), coefficients.tolist())
    return add_to_base(group, combined) if context.parameters["space"] == "deltas" else combined


def slerp(gram: torch.Tensor, t: float, collinear: float) -> torch.Tensor:
    """Spherical interpolation from vector 0 (t = 0) to vector 1, on the vectors as they are.

    Linear where the sine of their angle is below `collinear`. A zero vector has no direction and
    counts as orthogonal to the other, as deltas of unrelated experts nearly are.
    """
    cosine = cosines(gram)[0, 1].clamp(-1.0, 1.0)
    angle = torch.arccos(cosine)
    sine = torch.sin(angle)
    if float(sine.abs()) < collinear:
        return gram.new_tensor([1.0 - t, t])
    return torch.stack([torch.sin((1.0 - t) * angle), torch.sin(t * angle)]) / sine


def cosines(gram: torch.Tensor) -> torch.Tensor:
    """Cosine of every pair; 0 where a vector is zero."""
    norms = gram.diagonal().sqrt()
    product = norms[:, None] * norms[None, :]
    return torch.where(product > 0, gram / product, 0.0)


def normalised_mean(gram: torch.Tensor, weights: torch.Tensor, name: str) -> torch.Tensor:
    """Direction of the weighted mean of directions, of the weighted mean length.

    Raises:
        MergeError: if the directions cancel and there are more than two of them.
    """
    norms = gram.diagonal().sqrt()
    inverse = torch.where(norms > 0, 1.0 / norms, 0.0)
    direction = weights * inverse
    length = (direction @ gram @ direction).clamp(min=0.0).sqrt()
    # Directions of fp32 tensors that cancel do so but for their rounding.
    if float(length) <= 1e-6 * float(weights.abs().sum()):
        return _without_direction(gram, weights, name)
    return direction / length * (weights * norms).sum()


def _without_direction(gram: torch.Tensor, weights: torch.Tensor, name: str) -> torch.Tensor:
    if len(weights) <= 2 or float(gram.diagonal().max()) == 0.0:
        return weights
    raise MergeError(
        f"{name}: the experts' directions cancel, so their mean has none. "
        "Use method linear for this tensor (an override), or other weights."
    )


def karcher_mean(
    gram: torch.Tensor, weights: torch.Tensor, num_steps: int, tolerance: float
) -> torch.Tensor:
    """The point on the sphere with least weighted squared angle, times the weighted mean length.

    Vectors of norm 0 count for the length, not for the direction. Stops when a step is shorter
    than `tolerance` radians.
    """
    norms = gram.diagonal().sqrt()
    length = (weights * norms).sum()
    used = norms > 0
    if not bool(used.any()):
        return weights
    inverse = torch.where(used, 1.0 / norms, 0.0)
    units = gram * inverse[:, None] * inverse[None, :]
    shares = torch.where(used, weights, 0.0)
    shares = shares / shares.sum()
    point = _unit(shares, units)
    for _ in range(num_steps):
        step = _tangent_mean(point, units, shares)
        size = (step @ units @ step).clamp(min=0.0).sqrt()
        if float(size) < tolerance:
            break
        point = _unit(torch.cos(size) * point + torch.sin(size) * step / size, units)
    return point * inverse * length


def _unit(point: torch.Tensor, units: torch.Tensor) -> torch.Tensor:
    return point / (point @ units @ point).clamp(min=1e-300).sqrt()


def _tangent_mean(point: torch.Tensor, units: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """Weighted mean of the directions from `point` to every vector, in their coordinates."""
    cosine = (units @ point).clamp(-1.0, 1.0)
    angle = torch.arccos(cosine)
    sine = torch.sin(angle)
    stretch = torch.where(sine > 1e-12, angle / sine, 1.0)
    pull = shares * stretch
    return pull - (pull * cosine).sum() * point
