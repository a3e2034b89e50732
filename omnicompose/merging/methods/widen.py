"""WIDEN: weigh columns by how much their magnitude and direction moved, ranked per expert.

    m_j = | ||W_i[:, j]|| - ||W_0[:, j]|| |        c_j = 1 - cos(W_i[:, j], W_0[:, j])
    r   = rank of m_j (of c_j) inside expert i, divided by the number of columns
    S   = softmax over the experts of r, overwritten by `score` where r > ratio * mean(r)
    W   = W_0 + sum_i (S_m + S_c) / 2 * (W_i - W_0)             column-wise

    1-D tensors: one score per entry, from |W_i - W_0| in place of the rank. Kernels of
    convolutions are taken as [out, everything else].

Paper: "Extend Model Merging from Fine-Tuned to Pre-Trained LLMs via Weight Disentanglement",
arXiv 2408.03092, equations 2 to 7. Checked against MergeLLM `widen_merging`. Embeddings are
transposed, so that their columns are tokens. Where we differ: a column that is zero in base or
expert has no direction; the reference gets NaN for it, we count its direction as unmoved.
"""

import torch

from omnicompose.merging.method import MergeContext, MethodSpec, Parameter, TensorGroup
from omnicompose.merging.methods.deltas import add_to_base, base_of, deltas, number

SPEC = MethodSpec(
    name="widen",
    summary="Weigh columns by ranked change of size and direction; for deltas of unequal size.",
    formula="W = W_0 + sum_i (S_m + S_c)/2 (W_i - W_0), S from ranks of column changes",
    paper="2408.03092",
    needs_base=True,
    weighted=False,
    parameters=(
        Parameter(
            name="ratio",
            default=1.0,
            description="columns above this multiple of the mean rank get `score`",
            minimum=0.0,
        ),
        Parameter(name="score", default=1.0, description="weight of those columns", minimum=0.0),
    ),
)


class Widen:
    """Column weights from ranked changes."""

    spec = SPEC

    def merge(self, group: TensorGroup, context: MergeContext) -> torch.Tensor:
        """Base plus the column-weighted deltas, fp32."""
        moved = torch.stack(deltas(group))
        if moved.dim() <= 2:
            scores = importance_scores(moved.abs().view(len(moved), -1), context)
            return add_to_base(group, (moved * scores.view(moved.shape)).sum(0))
        # The norms run over axis `norm`: columns of a linear layer, tokens of an embedding.
        norm = 1 if group.role == "embedding" else 0
        base = base_of(group).flatten(1)
        changes = [_column_changes(expert.flatten(1), base, norm) for expert in group.experts]
        by_size = importance_scores(ranks(torch.stack([size for size, _ in changes])), context)
        by_turn = importance_scores(ranks(torch.stack([turn for _, turn in changes])), context)
        weights = (0.5 * (by_size + by_turn)).unsqueeze(norm + 1)
        weighted = moved.flatten(2) * weights
        return add_to_base(group, weighted.sum(0).view(moved.shape[1:]))


def _column_changes(
    expert: torch.Tensor, base: torch.Tensor, norm: int
) -> tuple[torch.Tensor, torch.Tensor]:
    sizes = expert.norm(dim=norm, keepdim=True), base.norm(dim=norm, keepdim=True)
    # 1 - cos(u, v) = |u - v|^2 / 2 for unit vectors: exactly 0 for a column that did not move.
    apart = (expert / sizes[0] - base / sizes[1]).square().sum(norm) / 2.0
    turned = torch.where((sizes[0] * sizes[1]).squeeze(norm) > 0, apart, 0.0)
    return (sizes[0] - sizes[1]).abs().squeeze(norm), turned


def ranks(changes: torch.Tensor) -> torch.Tensor:
    """Rank of every column inside its expert, ascending, in [0, 1); `[experts, columns]`."""
    order = changes.argsort(dim=1, stable=True)
    steps = torch.arange(changes.shape[1], device=changes.device) / changes.shape[1]
    return torch.zeros_like(changes).scatter_(1, order, steps.expand_as(changes))


def importance_scores(significance: torch.Tensor, context: MergeContext) -> torch.Tensor:
    """Softmax over experts, overwritten where an expert's own significance is above average."""
    scores = significance.softmax(dim=0)
    limit = significance.mean(dim=1, keepdim=True) * number(context.parameters, "ratio")
    return torch.where(significance > limit, number(context.parameters, "score"), scores)
