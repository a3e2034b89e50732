"""SSAM: filter the summed delta through the subspaces that all experts share.

    A = sum_i D_i D_i^T,  U = its top k eigenvectors          B = sum_i D_i^T D_i,  V likewise
    W = W_0 + scale * U U^T (sum_i D_i) V V^T                 combine: mean divides by T

    D_i   w_i (W_i - W_0)          k   `rank` (0: the largest rank of any D_i)

Paper: singular subspace alignment and merging (SSAM), equations 8 and 9, as reported second-hand
in specs/mmer.md: whether deltas are summed or averaged, and the value of k, could not be read. No
code was found and there is no golden; checked on the specification's numbers. With k at least the
rank of all deltas together this is task arithmetic. 1-D tensors: mean delta.
"""

import torch

from omnicompose.merging.method import MergeContext, MethodSpec, Parameter, TensorGroup
from omnicompose.merging.methods.deltas import add_to_base, mean_delta, number
from omnicompose.merging.methods.spectral import (
    from_cores,
    num_significant,
    svd,
    to_cores,
)
from omnicompose.merging.methods.task_arithmetic import SCALE

SPEC = MethodSpec(
    name="ssam",
    summary="Summed delta, filtered through the subspaces that the experts' deltas share.",
    formula="W = W_0 + scale * U U^T (sum_i D_i) V V^T, U and V: top k of sum D D^T and sum D^T D",
    paper="folklore",
    needs_base=True,
    factored_ok=True,
    parameters=(
        Parameter(
            name="rank",
            default=0,
            description="directions kept on each side; 0: the largest rank of any delta",
            minimum=0,
        ),
        Parameter(
            name="combine",
            default="sum",
            description="add the deltas up or average them",
            choices=("sum", "mean"),
        ),
        SCALE,
    ),
)


class Ssam:
    """Summed delta inside the shared subspaces."""

    spec = SPEC

    def merge(self, group: TensorGroup, context: MergeContext) -> torch.Tensor:
        """Base plus the filtered delta, fp32."""
        scale = number(context.parameters, "scale")
        if len(group.shape) != 2:
            return add_to_base(group, mean_delta(group), scale)
        cores = to_cores(group)
        rank = int(number(context.parameters, "rank")) or max(
            num_significant(torch.linalg.svdvals(core), group.shape) for core in cores.cores
        )
        total = torch.stack(cores.cores).sum(0)
        if context.parameters["combine"] == "mean":
            total = total / len(cores.cores)
        return add_to_base(group, from_cores(cores, _filtered(cores.cores, total, rank)), scale)


def _filtered(cores: tuple[torch.Tensor, ...], total: torch.Tensor, rank: int) -> torch.Tensor:
    # Singular vectors of the experts side by side are the eigenvectors of the summed Grams.
    left = svd(torch.cat(cores, dim=1)).u[:, :rank]
    right = svd(torch.cat(cores, dim=0)).v[:, :rank]
    return left @ (left.T @ total @ right) @ right.T
