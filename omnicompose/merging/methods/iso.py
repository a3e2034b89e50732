"""Isotropic merging: give the summed delta a flat spectrum.

    iso_c:    sum_i D_i = U diag(s) V^T
              W = W_0 + scale * mean(s) U V^T

    iso_cts:  c common directions: the top of the sum; k more from each expert, outside those:
              r directions in all, K = T round((r - int(f r)) / T), k = K / T, c = r - K
              (I - U_c U_c^T) D_i = U_i S_i V_i^T, top k
              W = W_0 + scale * mean([S_1 .. S_T, S_c]) polar([U_1 .. U_T, U_c]) polar([V ..])^T

    D_i   w_i (W_i - W_0)          f   common_fraction          1-D tensors: mean delta

Paper: "No Task Left Behind: Isotropic Model Merging", arXiv 2502.04959, algorithms 1 and 2. Checked
against the authors' iso.py and fusion_bench `iso_c`, `iso_cts`, MLLMerging `iso`. Where we differ:
the mean and the directions are restricted to singular values above rounding noise (r is the rank
of the sum). The references spread a rank-2 sum over all directions of the matrix, which is what
makes Iso collapse on LoRA experts; `null_space: keep` (profiles) does as they do.
"""

import torch

from omnicompose.merging.method import MergeContext, MethodSpec, Parameter, TensorGroup
from omnicompose.merging.methods.deltas import add_to_base, mean_delta, number, word
from omnicompose.merging.methods.spectral import (
    NULL_SPACE,
    Svd,
    from_cores,
    head,
    num_significant,
    polar,
    significant,
    svd,
    to_cores,
)
from omnicompose.merging.methods.task_arithmetic import SCALE

SPEC = MethodSpec(
    name="iso_c",
    summary="Summed delta with all its singular values set to their mean.",
    formula="W = W_0 + scale * mean(s) U V^T, sum_i (W_i - W_0) = U diag(s) V^T",
    paper="2502.04959",
    needs_base=True,
    factored_ok=True,
    dense_when={"null_space": "keep"},
    parameters=(SCALE, NULL_SPACE),
    profiles={"fusion_bench": {"null_space": "keep"}, "mllmerging": {"null_space": "keep"}},
)

CTS_SPEC = MethodSpec(
    name="iso_cts",
    summary="As iso_c, with some directions reserved for each expert.",
    formula="W = W_0 + scale * mean(S) polar([U_1 .. U_T, U_c]) polar([V_1 .. V_T, V_c])^T",
    paper="2502.04959",
    needs_base=True,
    factored_ok=True,
    dense_when={"null_space": "keep"},
    parameters=(
        Parameter(
            name="common_fraction",
            default=0.8,
            description="share of the directions that is taken from the sum",
            minimum=0.0,
            maximum=1.0,
        ),
        SCALE,
        NULL_SPACE,
    ),
    profiles={"fusion_bench": {"null_space": "keep"}},
)


class IsoC:
    """Flat spectrum of the sum."""

    spec = SPEC

    def merge(self, group: TensorGroup, context: MergeContext) -> torch.Tensor:
        """Base plus the flattened sum, fp32."""
        scale = number(context.parameters, "scale")
        if len(group.shape) != 2:
            return add_to_base(group, mean_delta(group), scale)
        cores, null_space = to_cores(group), word(context.parameters, "null_space")
        total = torch.stack(cores.cores).sum(0)
        parts = significant(svd(total), group.shape, null_space)
        if parts.s.numel() == 0:
            return add_to_base(group, from_cores(cores, total))
        return add_to_base(group, from_cores(cores, parts.s.mean() * parts.u @ parts.v.T), scale)


class IsoCts:
    """Flat spectrum over common and expert-specific directions."""

    spec = CTS_SPEC

    def merge(self, group: TensorGroup, context: MergeContext) -> torch.Tensor:
        """Base plus the flattened delta, fp32."""
        scale = number(context.parameters, "scale")
        if len(group.shape) != 2:
            return add_to_base(group, mean_delta(group), scale)
        cores, null_space = to_cores(group), word(context.parameters, "null_space")
        total = svd(torch.stack(cores.cores).sum(0))
        rank = num_significant(total.s, group.shape) if null_space == "truncate" else len(total.s)
        own = own_directions(rank, len(cores.cores), number(context.parameters, "common_fraction"))
        common = head(total, rank - own * len(cores.cores))
        parts = [_outside(core, common, own) for core in cores.cores]
        merged = flattened([*parts, common], group.shape, null_space)
        return add_to_base(group, from_cores(cores, merged), scale)


def own_directions(rank: int, num_experts: int, common_fraction: float) -> int:
    """How many directions each expert gets for itself."""
    wanted = round((rank - int(rank * common_fraction)) / num_experts)
    return min(wanted, rank // num_experts)


def _outside(core: torch.Tensor, common: Svd, count: int) -> Svd:
    """The top triplets of what the common directions leave over."""
    return head(svd(core - common.u @ (common.u.T @ core)), count)


def flattened(parts: list[Svd], shape: tuple[int, ...], null_space: str) -> torch.Tensor:
    """Common mean of all singular values on the decorrelated directions of all parts."""
    u, s, v = (torch.cat(pieces, dim=-1) for pieces in zip(*parts, strict=True))
    if null_space == "truncate":
        largest = float(s.max()) if s.numel() else 0.0
        used = s > largest * max(shape) * torch.finfo(torch.float32).eps
        u, s, v = u[:, used], s[used], v[:, used]
    if s.numel() == 0:
        return u.new_zeros(u.shape[0], v.shape[0])
    return s.mean() * polar(u, null_space) @ polar(v, null_space).T
