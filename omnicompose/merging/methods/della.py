"""DELLA (MagPrune): drop delta entries at random, small ones more often, rescale the rest.

    r_j = rank of |D_ij| in its row, 0 for the smallest          n = entries of the row
    p_j = density - epsilon + 2 epsilon r_j / (n - 1)            (density if n = 1)
    d_i = m_i * D_i / p,   m_ij ~ Bernoulli(p_j)

    della:         W = W_0 + scale * (sign election and disjoint merge of w_i d_i)
    della_linear:  W = W_0 + scale * sum_i w_i d_i

    D_i   W_i - W_0          w_i   coefficient          a 1-D tensor is one row

Paper: "DELLA-Merging", arXiv 2406.11617, section 3. Checked against mergekit 0.1.5 `della`,
`della_linear` with the masks that they drew.

Where we differ: mergekit does not divide by p_j but scales the whole tensor to its former L1 norm,
which favours large entries (`rescale: l1`, its profile), and computes 0 / 0 for rows of one entry.
Draws are keyed by (seed, expert, tensor, element).
"""

from dataclasses import dataclass

import torch

from omnicompose.errors import MergeError
from omnicompose.merging.method import MergeContext, MethodSpec, Parameter, TensorGroup
from omnicompose.merging.methods.consensus import COMBINE
from omnicompose.merging.methods.dare import DENSITY, RESCALE
from omnicompose.merging.methods.deltas import deltas, per_expert
from omnicompose.merging.methods.joining import join
from omnicompose.merging.methods.random_bits import Uniform, keyed_uniform
from omnicompose.merging.methods.sparsify import observe_l1, restore_l1
from omnicompose.merging.methods.task_arithmetic import NORMALIZE, SCALE

EPSILON = Parameter(
    name="epsilon",
    default=0.15,
    description="half the spread of keep probabilities between the smallest and largest entry",
    minimum=0.0,
    maximum=0.5,
    per_expert=True,
)

SPEC = MethodSpec(
    name="della",
    summary="Drop small delta entries more often than large ones, rescale, elect signs.",
    formula="W = W_0 + scale * mean_{agreeing} m_i (W_i - W_0) / p_i, p_i by rank in the row",
    paper="2406.11617",
    needs_base=True,
    stochastic=True,
    parameters=(DENSITY, EPSILON, SCALE, RESCALE, COMBINE),
    profiles={"mergekit": {"rescale": "l1"}},
)

LINEAR_SPEC = MethodSpec(
    name="della_linear",
    summary="Drop small delta entries more often than large ones, rescale, add up.",
    formula="W = W_0 + scale * sum_i w_i m_i (W_i - W_0) / p_i, p_i by rank in the row",
    paper="2406.11617",
    needs_base=True,
    stochastic=True,
    parameters=(DENSITY, EPSILON, SCALE, RESCALE, NORMALIZE),
    profiles={"mergekit": {"rescale": "l1"}},
)


@dataclass(frozen=True, slots=True)
class Della:
    """Magnitude-ranked dropping, then a sum or sign election.

    Attributes:
        spec: what it needs and promises; one that has `combine` elects signs.
        uniform: where the random numbers come from.
    """

    spec: MethodSpec = SPEC
    uniform: Uniform = keyed_uniform

    def merge(self, group: TensorGroup, context: MergeContext) -> torch.Tensor:
        """Base plus what is kept, joined; fp32."""
        return join(group, context, _kept(group, context, self.uniform))


def keep_probabilities(delta: torch.Tensor, density: float, epsilon: float) -> torch.Tensor:
    """Keep probability of every entry by its magnitude's rank in its row; fp32, delta's shape."""
    length = delta.shape[-1] if delta.dim() else 1
    if length == 1 or epsilon == 0.0:
        return torch.full_like(delta, density)
    order = delta.abs().argsort(dim=-1, stable=True)
    steps = torch.linspace(density - epsilon, density + epsilon, length, device=delta.device)
    return torch.empty_like(delta).scatter_(-1, order, steps.expand_as(delta))


def _kept(group: TensorGroup, context: MergeContext, uniform: Uniform) -> list[torch.Tensor]:
    moved, kept = deltas(group), []
    for i, delta in enumerate(moved):
        density, epsilon = _window(group, context, i)
        if density == 1.0:
            kept.append(delta)
            continue
        probability = keep_probabilities(delta, density, epsilon)
        drawn = delta * (uniform(group, i, context.seed) < probability)
        kept.append(drawn / probability if context.parameters["rescale"] == "density" else drawn)
    norms = observe_l1(group, moved, kept) if context.parameters["rescale"] == "l1" else {}
    return restore_l1(group, kept, norms)


def _window(group: TensorGroup, context: MergeContext, expert: int) -> tuple[float, float]:
    density = per_expert(group.expert_names, context, "density")[expert]
    epsilon = per_expert(group.expert_names, context, "epsilon")[expert]
    inside = density > epsilon and density + epsilon < 1.0
    if density < 1.0 and epsilon > 0.0 and not inside:
        raise MergeError(
            f"{group.name}: density {density} with epsilon {epsilon} asks for keep probabilities "
            f"from {density - epsilon:g} to {density + epsilon:g}, expected them between 0 and 1. "
            "Choose a smaller epsilon."
        )
    return density, epsilon
