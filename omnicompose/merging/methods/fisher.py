"""Fisher merging: every parameter of an expert counts by how much its predictions depend on it.

    W = sum_i w_i F_i W_i / sum_i w_i F_i          entry by entry
    F_i = (f_i + floor) / |f_i|                    |f_i|: norm over the whole model (normalize)

    f_i   diagonal Fisher information of expert i: mean over examples x of the squared gradient of
          log p(y | x), y drawn from the expert or given (`omnicompose collect --what fisher`)

Tensors without a measurement get the weighted mean. An expert without data has f_i = 0: the floor
decides, which is the same for all, so among experts without data this is the mean.

Paper: "Merging Models with Fisher-Weighted Averaging", arXiv 2111.09832. Checked against
fusion_bench `fisher` (profile `fusion_bench`: its floor of 1e-6).
Where we differ: MergeLM and fusion_bench square the gradient of a batch's sum, whose cross terms
make it no Fisher information; our collector squares per example. Their floor is an absolute number
that in large models exceeds most entries of a normalised Fisher; ours is 0 unless asked for, with
the mean where every expert has 0.
"""

from collections.abc import Mapping, Sequence

import torch

from omnicompose.errors import MergeError
from omnicompose.merging.method import (
    MergeContext,
    MethodSpec,
    Parameter,
    ParameterValue,
    Survey,
    TensorGroup,
)
from omnicompose.merging.methods.deltas import combine, flag, normalised, number

SPEC = MethodSpec(
    name="fisher",
    summary="Average weighted by each expert's Fisher information, entry by entry.",
    formula="W = sum_i w_i F_i W_i / sum_i w_i F_i",
    paper="2111.09832",
    needs_base=False,
    granularity="element",
    parameters=(
        Parameter(
            name="normalize",
            default=True,
            description="divide each expert's Fisher information by its norm over the whole model",
        ),
        Parameter(
            name="floor",
            default=0.0,
            description="added to every entry, before the normalisation",
            minimum=0.0,
        ),
    ),
    profiles={"fusion_bench": {"floor": 1e-6}},
    num_passes=2,
    measures="fisher",
)


class Fisher:
    """Average weighted by sensitivity."""

    spec = SPEC

    def survey(self, parameters: Mapping[str, ParameterValue]) -> Survey:
        """One pass over the model for the norms."""
        return Survey(num_passes=int(flag(parameters, "normalize")), scope="model")

    def observe(
        self, group: TensorGroup, context: MergeContext, observe_pass: int
    ) -> Mapping[str, torch.Tensor]:
        """Squared norm of every expert's Fisher information."""
        return {
            name: found.square().sum(dtype=torch.float64)
            for name, found in zip(group.expert_names, information(group), strict=False)
        }

    def merge(self, group: TensorGroup, context: MergeContext) -> torch.Tensor:
        """The weighted average, fp32, of the experts' shape."""
        shares = normalised(group.weights, group.name)
        mean = combine(group.experts, shares)
        found = information(group)
        if not found:
            return mean
        weighted, total = torch.zeros_like(mean), torch.zeros_like(mean)
        for own, expert, share, name in zip(
            found, group.experts, shares, group.expert_names, strict=True
        ):
            scaled = (own + number(context.parameters, "floor")) / _norm(context, name)
            # Relative to the mean, so that equal experts come back as they are.
            weighted.addcmul_(scaled, expert - mean, value=share)
            total.add_(scaled, alpha=share)
        return mean + torch.where(total == 0.0, 0.0, weighted / total)


def _norm(context: MergeContext, name: str) -> float:
    squared = float(context.statistics.get(name, 1.0))
    return squared**0.5 if squared > 0.0 else 1.0


def information(group: TensorGroup) -> Sequence[torch.Tensor]:
    """Mean squared gradients per expert; none where this tensor was measured of no expert.

    Raises:
        MergeError: they are of a tensor of another shape.
    """
    if not any(group.measured):
        return ()
    for own, expert in zip(group.measured, group.experts, strict=True):
        if own is not None and own.total.numel() != expert.numel():
            raise MergeError(
                f"{group.name}: found Fisher information of shape {list(own.total.shape)}, "
                f"expected {list(group.shape)}. Collect the statistics of this model again."
            )
    return [
        torch.zeros_like(expert) if own is None else own.total / max(own.count, 1.0)
        for own, expert in zip(group.measured, group.experts, strict=True)
    ]
