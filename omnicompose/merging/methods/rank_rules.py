"""How many directions of a spectrum matter: the rules that ASWUDI chooses from.

Every rule takes the eigenvalues of C `[in]`, descending, and the shape (out, in) of the matrix, and
gives a number of directions. Formulas as in MLLMerging `swudi_aswudi.py`.
"""

from collections.abc import Callable, Mapping

import torch

Shape = tuple[int, int]
RankRule = Callable[[torch.Tensor, Shape], int]


def _ceil(value: torch.Tensor) -> int:
    return int(torch.ceil(value)) if bool(torch.isfinite(value)) else 1


def everything(values: torch.Tensor, shape: Shape) -> int:
    """All directions."""
    return values.numel()


def stable_rank(values: torch.Tensor, shape: Shape) -> int:
    """`sum l^2 / max l^2`."""
    return _ceil(values.square().sum() / values[0].square())


def entropy(values: torch.Tensor, shape: Shape) -> int:
    """`exp(H)` of the eigenvalues as shares of their sum."""
    shares = values / values.sum()
    return _ceil(torch.exp(-torch.xlogy(shares, shares).sum()))


def participation(values: torch.Tensor, shape: Shape) -> int:
    """`(sum l)^2 / sum l^2`."""
    return _ceil(values.sum().square() / values.square().sum())


def participation_sqrt(values: torch.Tensor, shape: Shape) -> int:
    """`(sum sqrt l)^2 / sum l`."""
    return _ceil(values.sqrt().sum().square() / values.sum())


def gavish_donoho(values: torch.Tensor, shape: Shape) -> int:
    """Singular values above the optimal hard threshold, with the reference's rough median."""
    beta = min(shape) / max(shape)
    middle = 3.0**0.5 + 2.0 if beta >= 0.9999 else max((1.0 - beta) ** 2 + beta, 1e-3)
    root = (beta * beta + 14.0 * beta + 1.0) ** 0.5
    factor = (2.0 * (beta + 1.0) + 8.0 * beta / ((beta + 1.0) + root)) ** 0.5
    singular = values.sqrt()
    return int((singular > factor / middle**0.5 * singular.median()).sum())


def cumulated(share: float) -> RankRule:
    """Enough directions for this share of the sum."""

    def rule(values: torch.Tensor, shape: Shape) -> int:
        return int((values.cumsum(0) / values.sum() < share).sum()) + 1

    return rule


RANK_RULES: Mapping[str, RankRule] = {
    "participation_sqrt": participation_sqrt,
    "participation": participation,
    "entropy": entropy,
    "stable_rank": stable_rank,
    "gavish_donoho": gavish_donoho,
    "cumvar_0.9": cumulated(0.9),
    "cumvar_0.95": cumulated(0.95),
    "cumvar_0.99": cumulated(0.99),
    "none": everything,
}
