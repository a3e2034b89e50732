"""EMR: one shared delta, and per expert a one-bit mask and a scale (elect, mask, rescale).

    g     = +1 where sum_i D_i > 0, else -1
    U     = g * max_{i: g D_i > 0} |D_i|                        the shared delta
    M_i   = [g D_i > 0]
    L_i   = sum |D_i| / sum |M_i U|                             over the whole model
    W     = W_0 + U;   expert i gets back  W_0 + L_i M_i U

    D_i   W_i - W_0

Paper: "EMR-Merging", arXiv 2405.17461, equations 3 to 5. Checked against fusion_bench `emr_merging`
and the authors' rule. Where we differ: the authors' code takes L_i as a ratio of sums of per-tensor
means (`scaler: tensor_means`, in the profile); the paper, and we, of plain sums over the model.
`scope: tensor` gives every tensor its own L_i.
"""

from collections.abc import Mapping

import torch

from omnicompose.merging.method import (
    ExpertPart,
    MergeContext,
    MethodSpec,
    Parameter,
    ParameterValue,
    Survey,
    TensorGroup,
)
from omnicompose.merging.methods.deltas import add_to_base, deltas, number
from omnicompose.merging.methods.task_arithmetic import SCALE

SPEC = MethodSpec(
    name="emr",
    summary="One shared delta; each expert is a one-bit mask and a scale on top of it.",
    formula="W = W_0 + scale * U; expert i: W_0 + L_i M_i U",
    paper="2405.17461",
    needs_base=True,
    granularity="element",
    num_passes=2,
    weighted=False,
    output="bundle",
    parameters=(
        SCALE,
        Parameter(
            name="scope",
            default="model",
            description="what an expert's scale is computed over",
            choices=("model", "tensor"),
        ),
        Parameter(
            name="scaler",
            default="sums",
            description="ratio of sums over entries, or of sums of per-tensor means",
            choices=("sums", "tensor_means"),
        ),
    ),
    profiles={"fusion_bench": {"scaler": "tensor_means"}},
)


class Emr:
    """Elect, mask, rescale."""

    spec = SPEC

    def survey(self, parameters: Mapping[str, ParameterValue]) -> Survey:
        """One pass for the experts' scales."""
        return Survey(num_passes=1, scope="model" if parameters["scope"] == "model" else "tensor")

    def observe(
        self, group: TensorGroup, context: MergeContext, observe_pass: int
    ) -> Mapping[str, torch.Tensor]:
        """`emr.<expert>`: fp64 `[2]`, L1 norms of the delta and of the masked shared delta."""
        shared, size = shared_delta(deltas(group)), torch.Size(group.shape).numel()
        share = 1.0 / size if context.parameters["scaler"] == "tensor_means" else 1.0
        found = {}
        for name, delta in zip(group.expert_names, deltas(group), strict=True):
            masked = (shared * (delta * shared > 0)).abs().sum(dtype=torch.float64)
            full = delta.abs().sum(dtype=torch.float64)
            found[f"emr.{name}"] = torch.stack([full, masked]) * share
        return found

    def merge(self, group: TensorGroup, context: MergeContext) -> torch.Tensor:
        """Base plus the shared delta, fp32."""
        scale = number(context.parameters, "scale")
        return add_to_base(group, shared_delta(deltas(group)), scale)

    def expert_part(self, group: TensorGroup, context: MergeContext, expert: int) -> ExpertPart:
        """Mask and scale that give expert number `expert` back."""
        moved = deltas(group)
        shared = shared_delta(moved)
        full, masked = context.statistics[f"emr.{group.expert_names[expert]}"].tolist()
        # The shared delta was written times `scale`; the part undoes that.
        scale = number(context.parameters, "scale")
        factor = full / (masked * scale) if masked * scale else 1.0
        return ExpertPart(mask=moved[expert] * shared > 0, scale=factor)


def shared_delta(moved: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Per entry, the largest magnitude among the deltas of the elected sign, with that sign."""
    sign = torch.where(torch.stack(moved).sum(0) > 0, 1.0, -1.0)
    largest = torch.zeros_like(sign)
    for delta in moved:
        torch.maximum(largest, delta * sign, out=largest)
    return largest * sign
