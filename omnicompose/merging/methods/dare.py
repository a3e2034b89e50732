"""DARE: drop entries of every delta at random and rescale the rest, before another combination.

    m_i ~ Bernoulli(density)        d_i = m_i * (W_i - W_0) / density

    dare_linear:  W = W_0 + scale * sum_i w_i d_i
    dare_ties:    W = W_0 + scale * (sign election and disjoint merge of w_i d_i, see consensus.py)

Paper: "Language models are super Mario" (DARE), arXiv 2311.03099, equations 1 and 2. Checked
against mergekit 0.1.5 `dare_linear`, `dare_ties` and fusion_bench `dare_task_arithmetic` with the
masks that they drew.

Where we differ: draws are keyed by (seed, expert, tensor, element), so no order, thread count or
tile changes them; everything stays in fp32 (MLLMerging writes masked experts back in fp16).
mergekit's "rescale" is not the division by the density but a factor that restores the L1 norm of
the whole tensor: `rescale: l1` (one more pass), in its profile with `combine: sum`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from omnicompose.merging.method import (
    MergeContext,
    MethodSpec,
    Parameter,
    ParameterValue,
    Survey,
    TensorGroup,
)
from omnicompose.merging.methods.consensus import COMBINE
from omnicompose.merging.methods.deltas import (
    deltas,
    flag,
    normalised,
    number,
    per_expert,
    word,
)
from omnicompose.merging.methods.joining import join
from omnicompose.merging.methods.random_bits import (
    NUM_NUMBERS,
    Uniform,
    keyed_uniform,
    num_below,
    philox_key,
)
from omnicompose.merging.methods.sparsify import drop, observe_l1, restore_l1
from omnicompose.merging.methods.task_arithmetic import NORMALIZE, SCALE
from omnicompose.merging.tile_loop import Stored, TileLoop

if TYPE_CHECKING:
    from omnicompose.merging.kernels.dropping import Drops

DENSITY = Parameter(
    name="density",
    default=0.5,
    description="probability that an entry of a delta is kept (1 - drop rate)",
    minimum=0.0,
    maximum=1.0,
    per_expert=True,
)
RESCALE = Parameter(
    name="rescale",
    default="density",
    description="divide what is kept by the density, or restore the tensor's L1 norm, or neither",
    choices=("density", "l1", "none"),
)

LINEAR_SPEC = MethodSpec(
    name="dare_linear",
    summary="Drop delta entries at random, rescale the rest, add them up.",
    formula="W = W_0 + scale * sum_i w_i m_i (W_i - W_0) / density, m_i ~ Bernoulli(density)",
    paper="2311.03099",
    needs_base=True,
    granularity="element",
    num_passes=2,
    stochastic=True,
    parameters=(DENSITY, SCALE, RESCALE, NORMALIZE),
    profiles={"mergekit": {"density": 1.0, "rescale": "l1"}},
)

TIES_SPEC = MethodSpec(
    name="dare_ties",
    summary="Drop delta entries at random, rescale the rest, then elect signs as TIES does.",
    formula="W = W_0 + scale * mean_{agreeing} m_i (W_i - W_0) / density",
    paper="2311.03099",
    needs_base=True,
    granularity="element",
    num_passes=2,
    stochastic=True,
    parameters=(DENSITY, SCALE, RESCALE, COMBINE),
    profiles={"mergekit": {"density": 1.0, "rescale": "l1", "combine": "sum"}},
)


@dataclass(frozen=True, slots=True)
class Dare:
    """Random dropping, then a sum or sign election.

    Attributes:
        spec: what it needs and promises; one that has `combine` elects signs.
        uniform: where the random numbers come from.
    """

    spec: MethodSpec = LINEAR_SPEC
    uniform: Uniform = keyed_uniform

    def carries(self, weights: tuple[float, ...], parameters: Mapping[str, ParameterValue]) -> bool:
        """A dropped entry is multiplied by 0, which what is not finite survives.

        An L1 norm would carry it into every entry of the tensor.
        """
        return parameters["rescale"] != "l1" and 0.0 not in (parameters["scale"], *weights)

    def tile_loop(self, tensor: Stored, context: MergeContext) -> TileLoop | None:
        """Draw, drop and join in one loop, unless the largest of the agreeing is wanted."""
        parameters = context.parameters
        if parameters.get("combine") == "max" or self.uniform is not keyed_uniform:
            return None
        from omnicompose.merging.kernels.agreement import Vote
        from omnicompose.merging.kernels.dropping import add_dropped, merge_dropped

        drops, scale = _drops(tensor, context), np.float32(number(parameters, "scale"))
        if "combine" not in parameters:
            used = (
                normalised(tensor.weights, tensor.name)
                if flag(parameters, "normalize")
                else tensor.weights
            )
            weights = np.array(used, np.float32)
            return lambda start, stored, out: add_dropped(start, stored, drops, weights, scale, out)
        weights = np.array(tensor.weights, np.float32)
        vote = Vote(weights=weights, scale=scale, takes_mean=parameters["combine"] == "mean")
        return lambda start, stored, out: merge_dropped(start, stored, drops, vote, out)

    def survey(self, parameters: Mapping[str, ParameterValue]) -> Survey:
        """One pass for the L1 norms, if they are to be restored."""
        return Survey(num_passes=int(_restores(parameters)))

    def observe(
        self, group: TensorGroup, context: MergeContext, observe_pass: int
    ) -> Mapping[str, torch.Tensor]:
        """L1 norms before and after dropping."""
        return observe_l1(group, deltas(group), _dropped(group, context, self.uniform))

    def merge(self, group: TensorGroup, context: MergeContext) -> torch.Tensor:
        """Base plus what is kept, joined; fp32."""
        return join(group, context, _kept(group, context, self.uniform))


def _drops(tensor: Stored, context: MergeContext) -> "Drops":
    """What compiled loops are told of the draws."""
    from omnicompose.merging.kernels.dropping import Drops

    densities = per_expert(tensor.expert_names, context, "density")
    num_kept = [num_below(density) for density in densities]
    divides = context.parameters["rescale"] == "density"
    keys = [philox_key(context.seed, expert, tensor.name) for expert in tensor.expert_names]
    return Drops(
        keys=np.array([divmod(key, 1 << 64)[::-1] for key in keys], np.uint64),
        limits=np.array([(below % NUM_NUMBERS) << 8 for below in num_kept], np.uint32),
        keeps_all=np.array([below == NUM_NUMBERS for below in num_kept]),
        divisors=np.array([d if divides and d > 0.0 else 1.0 for d in densities], np.float32),
    )


def _restores(parameters: Mapping[str, ParameterValue]) -> bool:
    return parameters["rescale"] == "l1" and parameters["density"] != 1.0


def _dropped(group: TensorGroup, context: MergeContext, uniform: Uniform) -> list[torch.Tensor]:
    kept = list(deltas(group))
    for i, density in enumerate(per_expert(group.expert_names, context, "density")):
        if density < 1.0:
            kept[i] = drop(kept[i], uniform(group, i, context.seed), density)
    return kept


def _kept(group: TensorGroup, context: MergeContext, uniform: Uniform) -> list[torch.Tensor]:
    kept = _dropped(group, context, uniform)
    rescale = word(context.parameters, "rescale")
    if rescale == "density":
        for i, density in enumerate(per_expert(group.expert_names, context, "density")):
            kept[i] = kept[i] / density if density > 0.0 else kept[i]
    return restore_l1(group, kept, context.statistics if rescale == "l1" else {})
