"""Move the base towards an expert, but no entry by more than `t`.

    W = W_0 + clamp(W_1 - W_0, -t, t)

    W_0   base          W_1   the expert          t   greatest change of an entry

This is mergekit's rule in one step: it interpolates by min(1, t / |W_1 - W_0|). Folklore; checked
against mergekit 0.1.5 `nearswap`.
"""

import torch

from omnicompose.merging.method import MergeContext, MethodSpec, Parameter, TensorGroup
from omnicompose.merging.methods.deltas import add_to_base, deltas, number

SPEC = MethodSpec(
    name="nearswap",
    summary="Take an expert's small changes whole and cut its large ones to a limit.",
    formula="W = W_0 + clamp(W_1 - W_0, -t, t)",
    paper="folklore",
    needs_base=True,
    arity=(1, 1),
    granularity="element",
    weighted=False,
    parameters=(
        Parameter(
            name="t",
            default=0.001,
            description="greatest change of one entry, in units of the weights",
            minimum=0.0,
        ),
    ),
)


class NearSwap:
    """Clamped delta of one expert."""

    spec = SPEC

    def merge(self, group: TensorGroup, context: MergeContext) -> torch.Tensor:
        """Base plus the clamped delta, fp32."""
        limit = number(context.parameters, "t")
        return add_to_base(group, deltas(group)[0].clamp_(-limit, limit))
