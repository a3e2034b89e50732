"""Model Stock: pull the experts' mean back towards the base, by the angles between their deltas.

    c = mean over pairs of cos(D_i, D_j)            per tensor, or per row (`filter_wise`)
    t = T c / (1 + (T - 1) c)
    W = t * mean_i W_i + (1 - t) W_0

    D_i   W_i - W_0          T   number of experts

Paper: "Model Stock", arXiv 2403.19522, equations 4 and 5. Checked against mergekit 0.1.5,
fusion_bench and MergeLLM. Where we differ:
- opposed deltas give t < 0, and c = -1 / (T - 1) a pole; t is clamped to [0, 1] (`clamp: false` in
  the profiles).
- a zero delta has cosine 0 with everything; the references' absolute guard (1e-6) also shrinks the
  cosine of tiny deltas: `guard` 0 here, 1e-6 in the profiles.
- fusion_bench averages the angles in degrees and not the cosines: `average: angles`.
"""

import torch

from omnicompose.merging.method import MergeContext, MethodSpec, Parameter, TensorGroup
from omnicompose.merging.methods.deltas import add_to_base, combine, deltas, flag, number

SPEC = MethodSpec(
    name="model_stock",
    summary="The experts' mean, pulled back towards the base by how little their deltas agree.",
    formula="W = W_0 + t mean_i(W_i - W_0), t = T c / (1 + (T - 1) c), c = mean cosine of deltas",
    paper="2403.19522",
    needs_base=True,
    arity=(2, None),
    weighted=False,
    parameters=(
        Parameter(
            name="filter_wise", default=False, description="one t per row instead of per tensor"
        ),
        Parameter(name="clamp", default=True, description="keep t between 0 and 1"),
        Parameter(
            name="average",
            default="cosines",
            description="what is averaged over the pairs",
            choices=("cosines", "angles"),
        ),
        Parameter(
            name="guard",
            default=0.0,
            description="least product of norms that a cosine is divided by",
            minimum=0.0,
        ),
    ),
    profiles={
        "mergekit": {"clamp": False, "guard": 1e-6},
        "fusion_bench": {"clamp": False, "guard": 1e-8, "average": "angles"},
        "mergellm": {"clamp": False, "guard": 1e-6},
    },
)


class ModelStock:
    """Mean pulled back towards the base."""

    spec = SPEC

    def merge(self, group: TensorGroup, context: MergeContext) -> torch.Tensor:
        """Base plus the shortened mean delta, fp32."""
        moved = deltas(group)
        by_row = flag(context.parameters, "filter_wise") and moved[0].dim() > 1
        rows = [d.reshape(d.shape[0], -1) if by_row else d.reshape(1, -1) for d in moved]
        t = interpolation(torch.stack(rows).double(), context).float()
        mean = combine(moved, [1.0 / len(moved)] * len(moved))
        shape = (-1, *[1] * (mean.dim() - 1)) if by_row else (1,) * mean.dim()
        return add_to_base(group, mean * t.reshape(shape))


def interpolation(rows: torch.Tensor, context: MergeContext) -> torch.Tensor:
    """`t` per row of deltas `[experts, rows, entries]`; fp64 `[rows]`."""
    count = rows.shape[0]
    first, second = torch.triu_indices(count, count, offset=1)
    norms = rows.norm(dim=2)
    product = norms[first] * norms[second]
    guard = product.clamp(min=number(context.parameters, "guard"))
    inner = (rows[first] * rows[second]).sum(dim=2)
    cosines = torch.where(guard > 0, inner / guard, 0.0).clamp(-1.0, 1.0)
    if context.parameters["average"] == "angles":
        mean = torch.cos(torch.arccos(cosines).mean(dim=0))
    else:
        mean = cosines.mean(dim=0)
    t = count * mean / (1.0 + (count - 1) * mean)
    # Below the pole's cosine the formula changes sign; such rows have nothing in common.
    return torch.where(mean > 0, t, 0.0).clamp(max=1.0) if context.parameters["clamp"] else t
