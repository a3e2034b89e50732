"""SWUDI and ASWUDI: WUDI solved only along the strong directions of the deltas.

    C, D   as in wudi.py;   C = Q diag(l) Q^T
    swudi:   f = 1 - exp(-l time) on the ceil(keep in) largest l, 0 elsewhere     (filter: flow)
    aswudi:  f = 1 on the K largest l, K from the spectrum by `rule`
    X = S - S Q f Q^T + D Q (f / l) Q^T
    W = W_0 + scale * X

    D_i   w_i (W_i - W_0)     S   `start`: sum, mean or zero     1-D tensors: mean delta

Source: WalkerWorldPeace/MLLMerging, `swudi_aswudi.py` (after WUDI, arXiv 2503.08099; no paper of
its own was read). Checked against its outputs and those of its fusion_bench fork (`iwudi` is swudi
with keep 1). Where we differ: the reference clamps eigenvalues at 1e-8, below the noise of its fp32
decomposition; directions of noise are left at the start here. From the sum, multimodal models want
a scale of 0.1 to 0.3; from the mean, 1.
"""

import math

import torch

from omnicompose.merging.method import MergeContext, MethodSpec, Parameter, TensorGroup
from omnicompose.merging.methods.deltas import add_to_base, mean_delta, number, word
from omnicompose.merging.methods.linear_system import (
    START,
    Filter,
    Rows,
    delta_system,
    exact_filter,
    flow_filter,
    from_rows,
    solve,
    start_of,
    to_rows,
    top_filter,
)
from omnicompose.merging.methods.rank_rules import RANK_RULES
from omnicompose.merging.methods.task_arithmetic import SCALE

SPEC = MethodSpec(
    name="swudi",
    summary="WUDI as gradient flow of a given time along the strongest directions.",
    formula="W = W_0 + scale * (S - S Q f Q^T + D Q (f/l) Q^T), f = (1 - exp(-l time)) on the top",
    paper="2503.08099",
    needs_base=True,
    factored_ok=True,
    parameters=(
        SCALE,
        START,
        Parameter(
            name="filter",
            default="flow",
            description="flow: gradient flow for `time`; exact: the minimiser",
            choices=("flow", "exact"),
        ),
        Parameter(name="time", default=300.0, description="of the gradient flow", minimum=0.0),
        Parameter(
            name="keep",
            default=0.65,
            description="share of the input directions that is solved for",
            minimum=0.0,
            maximum=1.0,
        ),
    ),
    profiles={"mllmerging": {}, "llm": {"keep": 0.85}, "clip": {"time": 1300.0}},
)

ADAPTIVE_SPEC = MethodSpec(
    name="aswudi",
    summary="WUDI's minimiser along as many directions as the deltas' spectrum calls for.",
    formula="W = W_0 + scale * (S - S Q f Q^T + D Q (f/l) Q^T), f = 1 on the top K(l)",
    paper="2503.08099",
    needs_base=True,
    factored_ok=True,
    parameters=(
        SCALE,
        START,
        Parameter(
            name="rule",
            default="participation_sqrt",
            description="how K follows from the eigenvalues",
            choices=tuple(RANK_RULES),
        ),
    ),
)


class Swudi:
    """Gradient flow along the strongest directions."""

    spec = SPEC

    def merge(self, group: TensorGroup, context: MergeContext) -> torch.Tensor:
        """Base plus the solution, fp32."""
        if len(group.shape) != 2:
            return _mean(group, context)
        rows = to_rows(group)
        count = max(1, math.ceil(round(number(context.parameters, "keep") * rows.width, 9)))
        time = number(context.parameters, "time")
        inner = flow_filter(time) if context.parameters["filter"] == "flow" else exact_filter
        return _solved(group, context, rows, top_filter(inner, count, rows.width))


class Aswudi:
    """The minimiser along a number of directions that the spectrum gives."""

    spec = ADAPTIVE_SPEC

    def merge(self, group: TensorGroup, context: MergeContext) -> torch.Tensor:
        """Base plus the solution, fp32."""
        if len(group.shape) != 2:
            return _mean(group, context)
        rows = to_rows(group)
        rule, shape = RANK_RULES[word(context.parameters, "rule")], group.shape

        def adaptive(values: torch.Tensor) -> torch.Tensor:
            # The basis may be smaller than the input: the missing eigenvalues are zeros.
            missing = rows.width - values.numel()
            spectrum = torch.nn.functional.pad(values.flip(0), (0, missing))
            count = max(1, rule(spectrum, (shape[0], shape[1])))
            return top_filter(exact_filter, count, rows.width)(values)

        return _solved(group, context, rows, adaptive)


def _mean(group: TensorGroup, context: MergeContext) -> torch.Tensor:
    return add_to_base(group, mean_delta(group), number(context.parameters, "scale"))


def _solved(
    group: TensorGroup, context: MergeContext, rows: Rows, spectral_filter: Filter
) -> torch.Tensor:
    start = start_of(rows.rows, word(context.parameters, "start"))
    merged = solve(delta_system(rows.rows), start, spectral_filter)
    return add_to_base(group, from_rows(rows, merged), number(context.parameters, "scale"))
