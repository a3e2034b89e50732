"""TALL masks: which entries of a summed delta an expert needs; and the consensus of those masks.

    D   = scale * sum_i w_i D_i
    M_i = [ |D_i| > tall_lambda * |D - D_i| ]
    tall:       W = W_0 + D;   expert i gets  W_0 + M_i D
    consensus:  W = W_0 + D * [ at least min_experts of the M_i are set ]

    D_i   W_i - W_0          w_i   coefficient

Paper: "Localizing Task Information for Improved Model Merging and Compression", arXiv 2405.07813,
equations 4 and 5, and Consensus Merging, section 5. Checked against fusion_bench's masks. The paper
computes the masks with the unscaled sum; `scale` here is part of D, as in fusion_bench.
"""

import torch

from omnicompose.merging.method import (
    ExpertPart,
    MergeContext,
    MethodSpec,
    Parameter,
    TensorGroup,
)
from omnicompose.merging.methods.deltas import add_to_base, combine, deltas, number
from omnicompose.merging.methods.task_arithmetic import SCALE

TALL_LAMBDA = Parameter(
    name="tall_lambda",
    default=0.4,
    description="how strongly an entry must matter to an expert; larger means sparser masks",
    minimum=0.0,
)

SPEC = MethodSpec(
    name="tall",
    summary="Summed delta; each expert is the mask of the entries that it needs of it.",
    formula="W = W_0 + D; expert i: W_0 + [|D_i| > tall_lambda |D - D_i|] D",
    paper="2405.07813",
    needs_base=True,
    granularity="element",
    output="bundle",
    parameters=(SCALE, TALL_LAMBDA),
)

CONSENSUS_SPEC = MethodSpec(
    name="consensus",
    summary="Summed delta without the entries that hardly any expert needs.",
    formula="W = W_0 + D [sum_i M_i >= min_experts]",
    paper="2405.07813",
    needs_base=True,
    granularity="element",
    parameters=(
        SCALE,
        TALL_LAMBDA,
        Parameter(
            name="min_experts",
            default=2,
            description="an entry is kept if so many experts need it (at most: all of them)",
            minimum=0,
        ),
    ),
)


class Tall:
    """Summed delta with a mask per expert."""

    spec = SPEC

    def merge(self, group: TensorGroup, context: MergeContext) -> torch.Tensor:
        """Base plus the summed delta, fp32."""
        return add_to_base(group, _summed(group, context, deltas(group)))

    def expert_part(self, group: TensorGroup, context: MergeContext, expert: int) -> ExpertPart:
        """The entries that expert number `expert` needs, unscaled."""
        moved = deltas(group)
        mask = _mask(context, moved[expert], _summed(group, context, moved))
        return ExpertPart(mask=mask, scale=1.0)


class Consensus:
    """Summed delta where enough experts need it."""

    spec = CONSENSUS_SPEC

    def merge(self, group: TensorGroup, context: MergeContext) -> torch.Tensor:
        """Base plus the agreed part of the summed delta, fp32."""
        moved = deltas(group)
        summed = _summed(group, context, moved)
        votes = torch.stack([_mask(context, delta, summed) for delta in moved]).sum(0)
        needed = min(number(context.parameters, "min_experts"), len(moved))
        return add_to_base(group, summed * (votes >= needed))


def _summed(
    group: TensorGroup, context: MergeContext, moved: tuple[torch.Tensor, ...]
) -> torch.Tensor:
    scale = number(context.parameters, "scale")
    return combine(moved, [scale * weight for weight in group.weights])


def _mask(context: MergeContext, delta: torch.Tensor, summed: torch.Tensor) -> torch.Tensor:
    return delta.abs() > (summed - delta).abs() * number(context.parameters, "tall_lambda")
