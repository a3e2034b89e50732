"""FRANK: a vision expert and a reasoning model fused block by block, in closed form.

    l_t = w_t |D_t|^2 / (w_V |D_V|^2 + w_R |D_R|^2)        t = V, R; norms over a whole block
    W   = W_0 + l_V D_V + l_R D_R
    prior attention:  ln a_l = ln C - alpha l fitted by least squares; w_V = exp(-alpha l) / Z,
                      w_R = 1 - w_V
    prior decay:      alpha given           prior none:   w_V = w_R, which needs no data
    Z (normalise):    sum over blocks (the paper's), max (so w_V = 1 in the first block), or
                      raw: w_V = C exp(-alpha l), the fitted share itself (alpha alone for `decay`)

    D_V, D_R   deltas of the first (vision) and second (reasoning) expert
    a_l        share of attention that the vision expert's text pays to media in block l
               (`omnicompose collect --what attention`, of the first expert)

Embeddings, final norm and head count as one block more, with w_V = w_R.

Paper: "Training-Free Reasoning and Reflection in MLLMs", arXiv 2505.16151, read in the paper; no
code was found. As printed, w_V is normalised over blocks: in deep models it is a few percent
everywhere, and vision nearly vanishes where norms are alike; hence the choice.
"""

from collections.abc import Mapping

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
from omnicompose.merging.methods.deltas import deltas, number, word
from omnicompose.merging.methods.task_arithmetic import add_weighted_deltas

OUTSIDE = "outside"

SPEC = MethodSpec(
    name="frank",
    summary="Vision and reasoning expert fused per block by norms and attention to media.",
    formula="W = W_0 + sum_t l_t D_t, l_t = w_t |D_t|^2 / sum_s w_s |D_s|^2 per block",
    paper="2505.16151",
    needs_base=True,
    arity=(2, 2),
    granularity="element",
    parameters=(
        Parameter(
            name="prior",
            default="attention",
            description="where the weight of vision per block comes from",
            choices=("attention", "decay", "none"),
        ),
        Parameter(name="decay", default=0.1, description="alpha of prior: decay", minimum=0.0),
        Parameter(
            name="normalise",
            default="sum",
            description="what the prior is divided by",
            choices=("sum", "max", "raw"),
        ),
    ),
    num_passes=2,
    weighted=False,
    measures="attention",
    measured="first",
    measured_when={"prior": "attention"},
)


class Frank:
    """Closed form with an attention prior."""

    spec = SPEC

    def survey(self, parameters: Mapping[str, ParameterValue]) -> Survey:
        """One pass over the model for the norms of blocks."""
        return Survey(num_passes=1, scope="model")

    def observe(
        self, group: TensorGroup, context: MergeContext, observe_pass: int
    ) -> Mapping[str, torch.Tensor]:
        """Squared norms of both deltas, by block."""
        moved = [delta.square().sum(dtype=torch.float64) for delta in deltas(group)]
        return {_block(group): torch.stack(moved)}

    def merge(self, group: TensorGroup, context: MergeContext) -> torch.Tensor:
        """Base plus both deltas, fp32."""
        vision = vision_weight(group, context)
        norms = context.statistics[_block(group)]
        first = vision * float(norms[0])
        second = (1.0 - vision) * float(norms[1])
        share = first / (first + second) if first + second > 0.0 else vision
        return add_weighted_deltas(group, [share, 1.0 - share])


def _block(group: TensorGroup) -> str:
    return OUTSIDE if group.layer is None else str(group.layer)


def vision_weight(group: TensorGroup, context: MergeContext) -> float:
    """w_V of the group's block."""
    prior = word(context.parameters, "prior")
    if prior == "none" or group.layer is None:
        return 0.5
    if prior == "decay":
        level, decay = 1.0, number(context.parameters, "decay")
    else:
        level, decay = fitted(group)
    curve = torch.exp(-decay * torch.arange(group.num_layers, dtype=torch.float64))
    divisors = {"sum": float(curve.sum()), "max": float(curve.max()), "raw": 1.0 / level}
    weight = float(curve[group.layer]) / divisors[word(context.parameters, "normalise")]
    return min(weight, 1.0)


def fitted(group: TensorGroup) -> tuple[float, float]:
    """C and alpha of `ln a_l = ln C - alpha l` by least squares over the blocks.

    Raises:
        MergeError: the first expert's attention was not measured, or not in these blocks.
    """
    found = group.measured[0] if group.measured else None
    if found is None or found.total.shape != (group.num_layers, 2):
        raise MergeError(
            f"{group.name}: found no attention of the first expert in {group.num_layers} blocks. "
            "Run `omnicompose collect --what attention` on it, or set prior: none."
        )
    media, text = found.total.double().unbind(1)
    if not bool((media > 0).all()):
        raise MergeError(
            f"{group.name}: the first expert's text pays no attention to media in some block. "
            "Collect on prompts with media, or set prior: none."
        )
    shares = (media / (media + text)).log()
    places = torch.arange(group.num_layers, dtype=torch.float64) - (group.num_layers - 1) / 2
    spread = float(places.square().sum())
    slope = float((places * shares).sum()) / spread if spread else 0.0
    level = float(shares.mean()) - slope * (group.num_layers - 1) / 2
    return float(torch.tensor(level).exp()), -slope
