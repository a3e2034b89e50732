"""WUDI: the merged delta that interferes least with any expert, the deltas standing in for inputs.

    L(X) = sum_i ||(X - D_i) D_i^T||^2 / ||D_i||^2
    exact:  X = S (I - P) + D C^+
            C = sum_i D_i^T D_i / ||D_i||^2,  D = sum_i D_i D_i^T D_i / ||D_i||^2
    adam:   `steps` of Adam from S
    W    = W_0 + scale * X

    D_i   w_i (W_i - W_0)     S   `start`: sum, mean or zero     P   projector on range(C)
    1-D tensors: mean delta

Paper: "Whoever Started the Interference Should End It" (WUDI-Merging), arXiv 2503.08099, equation
10 and algorithm 1. Checked against fusion_bench `wudi` and MLLMerging (`solver: adam`; the authors'
own code was not available) and two implementations of the closed form.

Where we differ: the paper minimises with 300 Adam steps of 1e-5. The loss is a convex quadratic, so
the minimiser is found directly; Adam's steps are absolute, so its result depends on the size of the
deltas and stays near the start for large ones (profiles `paper`, `fusion_bench`, `mllmerging`). The
references divide by ||D_i||^2 and return NaN where an expert left a tensor unchanged; it is left
out of the loss here. From the sum, models want a scale of about 1 / T.
"""

import torch

from omnicompose.merging.method import MergeContext, MethodSpec, Parameter, TensorGroup
from omnicompose.merging.methods.deltas import add_to_base, mean_delta, number, word
from omnicompose.merging.methods.linear_system import (
    START,
    adam,
    delta_system,
    exact_filter,
    from_rows,
    solve,
    start_of,
    to_rows,
)
from omnicompose.merging.methods.task_arithmetic import SCALE

STEPS = Parameter(name="steps", default=300, description="steps of the iterative solver", minimum=0)
LEARNING_RATE = Parameter(
    name="learning_rate",
    default=1e-5,
    description="step size of the iterative solver",
    minimum=0.0,
)

SPEC = MethodSpec(
    name="wudi",
    summary="The delta that disturbs no expert on its own inputs, solved in closed form.",
    formula="W = W_0 + scale * argmin_X sum_i |(X - D_i) D_i^T|^2 / |D_i|^2",
    paper="2503.08099",
    needs_base=True,
    factored_ok=True,
    dense_when={"solver": "adam"},
    parameters=(
        SCALE,
        START,
        Parameter(
            name="solver",
            default="exact",
            description="the minimiser itself, or Adam from the start",
            choices=("exact", "adam"),
        ),
        STEPS,
        LEARNING_RATE,
    ),
    profiles={
        "paper": {"solver": "adam"},
        "fusion_bench": {"solver": "adam", "steps": 400},
        "mllmerging": {"solver": "adam"},
    },
)


class Wudi:
    """Least interference."""

    spec = SPEC

    def merge(self, group: TensorGroup, context: MergeContext) -> torch.Tensor:
        """Base plus the solution, fp32."""
        scale = number(context.parameters, "scale")
        if len(group.shape) != 2:
            return add_to_base(group, mean_delta(group), scale)
        rows = to_rows(group, rotate=context.parameters["solver"] != "adam")
        start = start_of(rows.rows, word(context.parameters, "start"))
        parts = delta_system(rows.rows)
        if context.parameters["solver"] == "exact":
            merged = solve(parts, start, exact_filter)
        else:
            rate = number(context.parameters, "learning_rate")
            merged = adam(parts, start, rate, int(number(context.parameters, "steps")))
        return add_to_base(group, from_rows(rows, merged), scale)
