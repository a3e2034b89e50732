"""Spherical interpolation of two experts by their weights, whole or row by row.

    t = w_2 / (w_1 + w_2)              (0.5 if the weights cancel)
    W = slerp(W_1, W_2, t)             along: tensor | rows | columns; linear if sin(phi) < 1e-8

    W_1, W_2   the experts (or their deltas, `space: deltas`)          w_i   coefficient

Folklore. Checked against mergekit 0.1.5 `nuslerp`: there `nuslerp_flatten: false` is `along: rows`,
and `nuslerp_row_wise: true`, which runs along dimension 0, is `along: columns`.
"""

import torch

from omnicompose.merging.method import MergeContext, MethodSpec, Parameter, TensorGroup
from omnicompose.merging.methods.deltas import add_to_base, word
from omnicompose.merging.methods.geometry import SPACE, vectors

SPEC = MethodSpec(
    name="nuslerp",
    summary="Spherical interpolation of two experts by weight; of tensors, rows or columns.",
    formula="W = slerp(W_1, W_2; w_2 / (w_1 + w_2))",
    paper="folklore",
    needs_base=False,
    arity=(2, 2),
    parameters=(
        Parameter(
            name="along",
            default="tensor",
            description="what one angle belongs to",
            choices=("tensor", "rows", "columns"),
        ),
        SPACE,
    ),
)


class NuSlerp:
    """Spherical interpolation by weight."""

    spec = SPEC

    def merge(self, group: TensorGroup, context: MergeContext) -> torch.Tensor:
        """The interpolated tensor, fp32."""
        first, second = (vector.double() for vector in vectors(group, context))
        along = word(context.parameters, "along")
        # A 1-D tensor is one row, and has no columns to speak of.
        dims = {"rows": (-1,), "columns": (0,)}.get(along, tuple(range(first.dim())))
        merged = interpolate(first, second, _fraction(group.weights), dims).float()
        return add_to_base(group, merged) if context.parameters["space"] == "deltas" else merged


def _fraction(weights: tuple[float, ...]) -> float:
    total = sum(weights)
    return weights[1] / total if abs(total) > 1e-6 * max(map(abs, weights), default=0.0) else 0.5


def interpolate(
    first: torch.Tensor, second: torch.Tensor, t: float, dims: tuple[int, ...]
) -> torch.Tensor:
    """Spherical interpolation of the slices that run over `dims`, fp64."""
    product = _norm(first, dims) * _norm(second, dims)
    inner = (first * second).sum(dim=dims, keepdim=True)
    # A zero vector has no direction: it counts as orthogonal, as in mergekit.
    cosine = torch.where(product > 0, inner / product, 0.0).clamp(-1.0, 1.0)
    angle = torch.arccos(cosine)
    sine = torch.sin(angle)
    straight = sine < 1e-8
    sine = torch.where(straight, 1.0, sine)
    from_first = torch.where(straight, 1.0 - t, torch.sin((1.0 - t) * angle) / sine)
    from_second = torch.where(straight, t, torch.sin(t * angle) / sine)
    return from_first * first + from_second * second


def _norm(tensor: torch.Tensor, dims: tuple[int, ...]) -> torch.Tensor:
    return tensor.square().sum(dim=dims, keepdim=True).sqrt()
