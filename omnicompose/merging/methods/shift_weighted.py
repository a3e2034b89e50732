"""Half the base, half the experts, those that moved a tensor more weighing more.

    a_i = mean |W_i - W_0|                          per tensor
    v   = softmax_i(temperature * a_i)              relative: a_i / mean_j a_j in place of a_i
    W   = W_0 + (1 - base_share) * sum_i v_i (W_i - W_0)

    W_0   base          W_i   expert i

Source: DarthZhu/lm-extend (shift-weighted merge of omni-modal experts; `temperature: 1000`,
`base_share: 0.5`). No golden; checked on the numbers of the specification (mean shifts .001 and
.002 give .13447 and .36553). The temperature of 1000 suits deltas of about 1e-3; `relative: true`
makes the weights independent of the deltas' size (then a temperature of about 1 is meant).
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
from omnicompose.merging.methods.deltas import deltas, flag, number
from omnicompose.merging.methods.energy import observe_shift
from omnicompose.merging.methods.task_arithmetic import add_weighted_deltas

SPEC = MethodSpec(
    name="shift_weighted",
    summary="Half base, half experts by softmax of how far each moved the tensor.",
    formula="W = W_0 + (1 - base_share) * sum_i softmax_i(temperature mean|W_i - W_0|) (W_i - W_0)",
    paper="folklore",
    needs_base=True,
    granularity="element",
    num_passes=2,
    weighted=False,
    parameters=(
        Parameter(
            name="temperature",
            default=1000.0,
            description="factor on the mean shifts inside the softmax",
            minimum=0.0,
        ),
        Parameter(
            name="base_share",
            default=0.5,
            description="share of the result that stays with the base",
            minimum=0.0,
            maximum=1.0,
        ),
        Parameter(
            name="relative",
            default=False,
            description="divide the shifts by their mean first, so that their size is irrelevant",
        ),
    ),
)


class ShiftWeighted:
    """Experts weighted by softmax of their mean shift."""

    spec = SPEC

    def survey(self, parameters: Mapping[str, ParameterValue]) -> Survey:
        """One pass for the mean shift of a tensor."""
        return Survey(num_passes=1)

    def observe(
        self, group: TensorGroup, context: MergeContext, observe_pass: int
    ) -> Mapping[str, torch.Tensor]:
        """Sum of magnitudes of each delta."""
        return observe_shift(group, deltas(group))

    def merge(self, group: TensorGroup, context: MergeContext) -> torch.Tensor:
        """Base plus the weighted deltas, fp32."""
        sums = torch.stack([context.statistics[f"shift.{name}"] for name in group.expert_names])
        shifts = sums[:, 0] / sums[:, 1]
        if flag(context.parameters, "relative") and float(shifts.sum()) > 0.0:
            shifts = shifts / shifts.mean()
        weights = torch.softmax(number(context.parameters, "temperature") * shifts, dim=0)
        share = 1.0 - number(context.parameters, "base_share")
        return add_weighted_deltas(group, (share * weights).tolist())
