"""KnOTS: align deltas in one left basis, then merge their right factors entry by entry.

    [D_1 .. D_T] = U diag(s) [V_1 .. V_T]^T                 (concatenated along the input)
    R_i = diag(s) V_i^T
    W   = W_0 + scale * U * inner(R_1 .. R_T)               inner: TIES, DARE-TIES, mean or sum

    D_i   W_i - W_0, for LoRA alpha / r included          w_i   goes into `inner`

Paper: "Model merging with SVD to tie the KnOTS", arXiv 2410.19735, section 4. Checked against the
identities of the paper (mean and sum give the plain mean and sum). Where we differ: the reference
ignores alpha / r, trims over all layers at once and keeps s > 1e-5; here deltas are products with
their scale, masks are per tensor and the cut is relative to the largest s. 1-D tensors: mean delta.
"""

import torch

from omnicompose.merging.method import MergeContext, MethodSpec, Parameter, TensorGroup
from omnicompose.merging.methods.consensus import elect, merge_agreeing
from omnicompose.merging.methods.deltas import (
    add_to_base,
    combine,
    deltas,
    mean_delta,
    number,
    word,
)
from omnicompose.merging.methods.random_bits import philox_key, uniform_numbers
from omnicompose.merging.methods.spectral import factors_of, svd, to_work
from omnicompose.merging.methods.task_arithmetic import SCALE
from omnicompose.merging.methods.trimming import keep_from, num_kept

CUT = 1e-6
"""Directions whose singular value is a smaller share of the largest are left out."""

SPEC = MethodSpec(
    name="knots",
    summary="Align LoRA deltas by a joint SVD, then merge the aligned factors entry by entry.",
    formula="W = W_0 + scale * U inner(diag(s) V_i^T), [D_1 .. D_T] = U diag(s) [V_1 .. V_T]^T",
    paper="2410.19735",
    needs_base=True,
    stochastic=True,
    factored_ok=True,
    parameters=(
        Parameter(
            name="inner",
            default="ties",
            description="how the aligned factors are merged",
            choices=("ties", "dare_ties", "mean", "sum"),
        ),
        Parameter(
            name="density",
            default=1.0,
            description="share of each aligned factor that ties and dare_ties keep",
            minimum=0.0,
            maximum=1.0,
        ),
        SCALE,
    ),
)


class Knots:
    """Merging of aligned right factors."""

    spec = SPEC

    def merge(self, group: TensorGroup, context: MergeContext) -> torch.Tensor:
        """Base plus the merged delta, fp32."""
        scale = number(context.parameters, "scale")
        if len(group.shape) != 2:
            return add_to_base(group, mean_delta(group), scale)
        basis, aligned = align(group)
        merged = basis @ _inner(aligned, group, context).to(basis)
        return add_to_base(group, merged.float(), scale)


def align(group: TensorGroup) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The common left basis `[out, p]` and every expert's `[p, in]`, fp32."""
    found = factors_of(group)
    if found is None:
        left, rows = None, [to_work(delta) for delta in deltas(group)]
    else:
        left, _ = torch.linalg.qr(to_work(torch.cat([f.B for f in found], dim=1)))
        rows = [(left.T @ f.B.to(left)) @ f.A.to(left) * f.scale for f in found]
    # The right side is only rotated back: diag(s) V_i^T is U^T times the delta itself.
    gram = torch.stack([row @ row.T for row in rows]).sum(0)
    parts = svd(gram)
    kept = parts.s.sqrt() > CUT * parts.s[:1].sqrt()
    basis = parts.u[:, kept]
    aligned = [(basis.T @ row).float() for row in rows]
    return basis if left is None else left @ basis, aligned


def _inner(aligned: list[torch.Tensor], group: TensorGroup, context: MergeContext) -> torch.Tensor:
    inner, density = word(context.parameters, "inner"), number(context.parameters, "density")
    if inner in ("mean", "sum"):
        share = 1.0 / len(aligned) if inner == "mean" else 1.0
        return combine(aligned, [share * weight for weight in group.weights])
    if density < 1.0 and aligned[0].numel():
        thin = _trimmed if inner == "ties" else _dropped
        aligned = [thin(row, density, group, i, context.seed) for i, row in enumerate(aligned)]
    return merge_agreeing(aligned, group.weights, elect(aligned, group.weights))


def _trimmed(
    row: torch.Tensor, density: float, group: TensorGroup, expert: int, seed: int
) -> torch.Tensor:
    kept = num_kept(density, row.numel(), "round")
    return keep_from(row, float(row.abs().flatten().kthvalue(row.numel() - kept + 1).values))


def _dropped(
    row: torch.Tensor, density: float, group: TensorGroup, expert: int, seed: int
) -> torch.Tensor:
    key = philox_key(seed, group.expert_names[expert], group.name)
    numbers = torch.from_numpy(uniform_numbers(key, 0, row.numel())).to(row.device)
    kept = row * (numbers.view(row.shape) < density)
    return kept / density if density > 0.0 else kept
