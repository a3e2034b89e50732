"""TSV-Merging with experts weighted by outliers and ranks by how dense a delta is.

    o_i = share of sum |D_i| in entries beyond mean + 3 standard deviations of |D_i|
    a_i = T o_i / sum_j o_j                       expert weight; 1 where all are alike
    e_i = |D_i|_1^2 / (|D_i|_2^2 n)               density; 1 where all entries are alike in size
    k_i = floor(r e_i / sum_j e_j)                ranks, r / T where all are alike
    W   = W_0 + scale * TSV of the k_i largest triplets of a_i D_i

R-TSVM ("Mix Data or Merge Models?", arXiv 2502.06876) is described in its abstract as TSV-Merging
with outlier-aware weights and sparsity-adaptive ranks; neither text nor code could be read
(specs/methods.md A.19). The formulas above are ours: this is no reproduction.
"""

import torch

from omnicompose.merging.method import MergeContext, MethodSpec, TensorGroup
from omnicompose.merging.methods.deltas import add_to_base, deltas, mean_delta, number
from omnicompose.merging.methods.spectral import head, polar, significant, svd, to_work
from omnicompose.merging.methods.task_arithmetic import SCALE

DEVIATIONS = 3.0

SPEC = MethodSpec(
    name="r_tsvm_like",
    summary="TSV with weights from outliers and ranks from density; after an abstract alone.",
    formula="W = W_0 + scale * TSV of the k_i top triplets of a_i D_i, k_i by density",
    paper="2502.06876",
    needs_base=True,
    parameters=(SCALE,),
)


class RTsvmLike:
    """TSV with its own weights and ranks."""

    spec = SPEC

    def merge(self, group: TensorGroup, context: MergeContext) -> torch.Tensor:
        """Base plus the merged delta, fp32."""
        scale = number(context.parameters, "scale")
        if len(group.shape) != 2:
            return add_to_base(group, mean_delta(group), scale)
        pairs = zip(deltas(group), group.weights, strict=True)
        moved = [delta * weight for delta, weight in pairs]
        masses = [outlier_mass(delta) for delta in moved]
        total = sum(masses)
        ranks = shares([density(delta) for delta in moved], min(group.shape))
        parts = []
        for delta, mass, rank in zip(moved, masses, ranks, strict=True):
            weight = len(moved) * mass / total if total > 0.0 else 1.0
            top = significant(svd(to_work(delta * weight)), group.shape, "truncate")
            parts.append(head(top, rank))
        u, s, v = (torch.cat(pieces, dim=-1) for pieces in zip(*parts, strict=True))
        if s.numel() == 0:
            return add_to_base(group, torch.zeros_like(moved[0]), scale)
        merged = polar(u) * s @ polar(v).T
        return add_to_base(group, merged.float(), scale)


def outlier_mass(delta: torch.Tensor) -> float:
    """Share of the absolute sum that lies beyond mean + 3 standard deviations."""
    sizes = delta.abs().double()
    total = float(sizes.sum())
    border = sizes.mean() + DEVIATIONS * sizes.std(unbiased=False)
    return float(sizes[sizes > border].sum()) / total if total > 0.0 else 0.0


def density(delta: torch.Tensor) -> float:
    """1 where all entries have one size, 1 / n where all but one are zero, 0 without any."""
    squared = float(delta.double().square().sum())
    if squared == 0.0:
        return 0.0
    return float(delta.double().abs().sum()) ** 2 / (squared * delta.numel())


def shares(sizes: list[float], rank: int) -> list[int]:
    """A rank divided in proportion; at least 1 each."""
    total = sum(sizes)
    if total == 0.0:
        return [max(1, rank // len(sizes))] * len(sizes)
    # A share that is a whole number but for fp32 rounding is that number.
    return [max(1, int(rank * size / total + 1e-5)) for size in sizes]
