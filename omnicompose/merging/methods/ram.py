"""Keep what only one expert changed, average what several changed.

    n   = number of experts with |D_i| > epsilon at an entry
    ram:      W = W_0 + sum_{i: |D_i| > epsilon} D_i / n
    ramplus:  where n = 1 the delta is also multiplied by  1 + r * min(rho_i, alpha),
              rho_i = (entries that i shares) / (entries that only i changed), per tensor

    D_i   W_i - W_0          epsilon   below it an entry counts as unchanged

Paper: "Reinforced Agent Merging", arXiv 2601.13572. Checked against mergekit 0.1.5 `ram` and
`ramplus_tl` (tensor-local). Where we differ: the reference divides by max(unique, epsilon) and so
lets rho reach alpha when an expert has no unique entry; the product is the same, as nothing is
then scaled.
"""

from collections.abc import Mapping

import torch

from omnicompose.merging.method import (
    MergeContext,
    MethodSpec,
    Parameter,
    ParameterValue,
    Survey,
    TensorGroup,
)
from omnicompose.merging.methods.deltas import add_to_base, deltas, number

EPSILON = Parameter(
    name="epsilon",
    default=1e-5,
    description="entries that moved by no more count as unchanged, in units of the weights",
    minimum=0.0,
)

SPEC = MethodSpec(
    name="ram",
    summary="Keep entries that one expert changed whole, average those that several changed.",
    formula="W = W_0 + sum_{moved} (W_i - W_0) / (number of experts that moved the entry)",
    paper="2601.13572",
    needs_base=True,
    granularity="element",
    weighted=False,
    parameters=(EPSILON,),
)

PLUS_SPEC = MethodSpec(
    name="ramplus",
    summary="As ram, with unique entries enlarged by how much their expert shares with others.",
    formula="W = W_0 + sum_{moved} D_i (1 + r min(shared_i/unique_i, alpha) if unique else 1/n)",
    paper="2601.13572",
    needs_base=True,
    granularity="element",
    num_passes=2,
    weighted=False,
    parameters=(
        EPSILON,
        Parameter(name="r", default=0.1, description="strength of the enlargement", minimum=0.0),
        Parameter(
            name="alpha",
            default=0.2,
            description="greatest ratio of shared to unique entries that counts",
            minimum=0.0,
        ),
    ),
)


class Ram:
    """Unique entries whole, shared entries averaged."""

    spec = SPEC

    def merge(self, group: TensorGroup, context: MergeContext) -> torch.Tensor:
        """Base plus the merged delta, fp32."""
        moved, changed, count = _changes(group, context)
        share = count.clamp(min=1.0).reciprocal_()
        total = sum((d * c for d, c in zip(moved, changed, strict=True)), torch.zeros_like(count))
        return add_to_base(group, total * share)


class RamPlus:
    """As `Ram`, with unique entries enlarged."""

    spec = PLUS_SPEC

    def survey(self, parameters: Mapping[str, ParameterValue]) -> Survey:
        """One pass that counts shared and unique entries of a tensor."""
        return Survey(num_passes=1)

    def observe(
        self, group: TensorGroup, context: MergeContext, observe_pass: int
    ) -> Mapping[str, torch.Tensor]:
        """`overlap.<expert>`: fp64 `[2]`, how many entries are shared and unique."""
        _, changed, count = _changes(group, context)
        return {
            f"overlap.{name}": torch.stack(
                [
                    (mask * (count > 1)).sum(dtype=torch.float64),
                    (mask * (count == 1)).sum().double(),
                ]
            )
            for name, mask in zip(group.expert_names, changed, strict=True)
        }

    def merge(self, group: TensorGroup, context: MergeContext) -> torch.Tensor:
        """Base plus the merged delta, fp32."""
        moved, changed, count = _changes(group, context)
        share, unique = count.clamp(min=1.0).reciprocal_(), (count == 1).float()
        total = torch.zeros_like(count)
        for i, (delta, mask) in enumerate(zip(moved, changed, strict=True)):
            extra = unique * _enlargement(group, context, i)
            total.add_(delta * mask * (share + extra))
        return add_to_base(group, total)


def _changes(
    group: TensorGroup, context: MergeContext
) -> tuple[tuple[torch.Tensor, ...], list[torch.Tensor], torch.Tensor]:
    epsilon = number(context.parameters, "epsilon")
    moved = deltas(group)
    changed = [(delta.abs() > epsilon).float() for delta in moved]
    return moved, changed, torch.stack(changed).sum(0)


def _enlargement(group: TensorGroup, context: MergeContext, expert: int) -> float:
    shared, unique = context.statistics[f"overlap.{group.expert_names[expert]}"].tolist()
    ratio = shared / unique if unique else 0.0
    return number(context.parameters, "r") * min(ratio, number(context.parameters, "alpha"))
