"""TSV-Merging: keep every expert's top singular triplets and decorrelate them across experts.

    D_i = U_i S_i V_i^T,  the k = min(out, in) // T largest triplets of each
    U = [U_1 .. U_T],  S = [S_1 .. S_T],  V = [V_1 .. V_T]
    W = W_0 + scale * polar(U) diag(S) polar(V)^T              polar(M) = P Q^T for M = P s Q^T

    D_i   w_i (W_i - W_0)          T   number of experts          1-D tensors: mean delta

Paper: "Task Singular Vectors", arXiv 2412.00081, section 4.2. Checked against the authors'
TSVM_utils and fusion_bench `tsvm`, MLLMerging `svd`. Where we differ: singular values that are
rounding noise are left out, of the experts and of the polar factors (polar+). The references keep
them: two equal experts diag(4, 3, 2, 1) then give diag(4, 3, 4, 3), and rank-1 adapters are off by
half their size. `null_space: keep` (profile `fusion_bench`) does as they do. MLLMerging's first
scripts never reach this branch and return the mean delta.
"""

import torch

from omnicompose.merging.method import MergeContext, MethodSpec, TensorGroup
from omnicompose.merging.methods.deltas import add_to_base, mean_delta, number, word
from omnicompose.merging.methods.spectral import (
    NULL_SPACE,
    Cores,
    from_cores,
    head,
    polar,
    significant,
    svd,
    to_cores,
)
from omnicompose.merging.methods.task_arithmetic import SCALE

SPEC = MethodSpec(
    name="tsv",
    summary="Each expert's top singular triplets, decorrelated, then added up.",
    formula="W = W_0 + scale * polar([U_i]) diag([S_i]) polar([V_i])^T, top min(out, in)/T of each",
    paper="2412.00081",
    needs_base=True,
    factored_ok=True,
    dense_when={"null_space": "keep"},
    parameters=(SCALE, NULL_SPACE),
    profiles={"fusion_bench": {"null_space": "keep"}},
)


class Tsv:
    """Decorrelated top singular triplets."""

    spec = SPEC

    def merge(self, group: TensorGroup, context: MergeContext) -> torch.Tensor:
        """Base plus the merged delta, fp32."""
        scale = number(context.parameters, "scale")
        if len(group.shape) != 2:
            return add_to_base(group, mean_delta(group), scale)
        cores = to_cores(group)
        merged = decorrelated_sum(cores, group.shape, word(context.parameters, "null_space"))
        return add_to_base(group, from_cores(cores, merged), scale)


def decorrelated_sum(cores: Cores, shape: tuple[int, ...], null_space: str) -> torch.Tensor:
    """`polar(U) diag(S) polar(V)^T` of the cores' top triplets."""
    share = max(1, cores.full_rank // len(cores.cores))
    parts = [head(significant(svd(core), shape, null_space), share) for core in cores.cores]
    u, s, v = (torch.cat(pieces, dim=-1) for pieces in zip(*parts, strict=True))
    if s.numel() == 0:
        return torch.zeros_like(cores.cores[0])
    return polar(u, null_space) * s @ polar(v, null_space).T
