"""Breadcrumbs: drop the largest and the smallest entries of every delta.

    n   entries of a tensor          top = int(gamma n)          keep = round(density n)
    d_i = D_i where its magnitude has rank top + 1 .. top + keep (1 = largest), else 0

    breadcrumbs:       W = W_0 + scale * sum_i w_i d_i
    breadcrumbs_ties:  W = W_0 + scale * (sign election and disjoint merge of w_i d_i)

    D_i   W_i - W_0          w_i   coefficient          gamma   share of outliers dropped

Paper: "Model Breadcrumbs", arXiv 2312.06795, section 3. Checked against mergekit 0.1.5
`breadcrumbs`, `breadcrumbs_ties` and MergeLLM `breadcrumbs`.

Where we differ: mergekit slices with `[n_bot:-n_top]`, which zeroes the whole tensor whenever
int(gamma n) is 0 (small tensors, or gamma 0); here nothing is dropped at the top then. `counting:
floor` keeps int(density n) as mergekit does, `mask_rate` follows MergeLLM: int((1 - density) n)
dropped in all, of which int((1 - density - gamma) n) - 1 at the bottom. Entries that tie with the
last one kept are kept. If density + gamma > 1, fewer are dropped at the top.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

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
from omnicompose.merging.methods.deltas import deltas, per_expert, word
from omnicompose.merging.methods.joining import join
from omnicompose.merging.methods.selection import TensorMagnitudes
from omnicompose.merging.methods.task_arithmetic import SCALE
from omnicompose.merging.methods.trimming import (
    DENSITY,
    MOST_COLLECTED,
    SPARE_STAGES,
    TENSOR_STAGES,
    Thresholds,
    keep_from,
    keep_up_to,
    num_kept,
    tile_of,
)

GAMMA = Parameter(
    name="gamma",
    default=0.01,
    description="share of the largest entries of each delta that is dropped",
    minimum=0.0,
    maximum=1.0,
    per_expert=True,
)
COUNTING = Parameter(
    name="counting",
    default="round",
    description="how shares become numbers of entries; see the method's file",
    choices=("round", "floor", "mask_rate"),
)
PROFILES: Mapping[str, Mapping[str, ParameterValue]] = {
    "mergekit": {"counting": "floor", "density": 1.0, "combine": "sum"},
    "mergellm": {"counting": "mask_rate", "density": 0.9, "gamma": 0.05, "scale": 0.5},
}

SPEC = MethodSpec(
    name="breadcrumbs",
    summary="Drop the largest and the smallest entries of every delta, add up the rest.",
    formula="W = W_0 + scale * sum_i w_i middle(W_i - W_0; density, gamma)",
    paper="2312.06795",
    needs_base=True,
    granularity="element",
    num_passes=5,
    parameters=(DENSITY, GAMMA, SCALE, COUNTING),
    profiles={
        name: {key: value for key, value in values.items() if key != "combine"}
        for name, values in PROFILES.items()
    },
)

TIES_SPEC = MethodSpec(
    name="breadcrumbs_ties",
    summary="Drop the largest and the smallest entries of every delta, then elect signs.",
    formula="W = W_0 + scale * mean_{agreeing} middle(W_i - W_0; density, gamma)",
    paper="2312.06795",
    needs_base=True,
    granularity="element",
    num_passes=5,
    parameters=(DENSITY, GAMMA, SCALE, COUNTING, COMBINE),
    profiles={"mergekit": PROFILES["mergekit"]},
)


class Ranks(NamedTuple):
    """First and last rank kept, counted from the largest magnitude (1)."""

    first: int
    last: int


SURVEY = Survey(
    num_passes=len(TENSOR_STAGES),
    num_sampled=1,
    num_spare=len(SPARE_STAGES),
    collects=2 * MOST_COLLECTED,
)


@dataclass(frozen=True, slots=True)
class Breadcrumbs:
    """The middle of every delta, added up or put to the vote.

    Attributes:
        spec: what it needs and promises; one that has `combine` votes.
    """

    spec: MethodSpec = SPEC

    def survey(self, parameters: Mapping[str, ParameterValue]) -> Survey:
        """The passes of the thresholds of a tensor."""
        return SURVEY

    def observe(
        self, group: TensorGroup, context: MergeContext, observe_pass: int
    ) -> Mapping[str, torch.Tensor]:
        """Counts of magnitudes."""
        search = _thresholds(group.expert_names, context)
        stage = TENSOR_STAGES[observe_pass]
        magnitudes = [TensorMagnitudes(delta) for delta in deltas(group)]
        return search.observe(stage, tile_of(group), magnitudes, context.statistics)

    def needs(
        self, expert_names: tuple[str, ...], context: MergeContext, observe_pass: int
    ) -> bool:
        """Whether a pass can still add to what is known."""
        search = _thresholds(expert_names, context)
        return search.needs(TENSOR_STAGES[observe_pass], context.statistics)

    def settle(
        self, expert_names: tuple[str, ...], context: MergeContext, observe_pass: int
    ) -> Mapping[str, torch.Tensor]:
        """The thresholds in place of the counts."""
        search = _thresholds(expert_names, context)
        return search.settle(TENSOR_STAGES[observe_pass], context.statistics)

    def merge(self, group: TensorGroup, context: MergeContext) -> torch.Tensor:
        """Base plus the merged middles, fp32."""
        return join(group, context, _middles(group, context))


def ranks_kept(density: float, gamma: float, size: int, counting: str) -> Ranks:
    """Which ranks of `size` magnitudes survive."""
    if counting == "mask_rate":
        # The rate itself must be exact: 1 - 0.9 - 0.02 falls short of 0.08 in binary.
        bottom = int(size * round(1.0 - density - gamma, 12))
        top = max(0, int(size * (1.0 - density)) - bottom)
        return Ranks(top + 1, min(size, size - bottom + 1))
    kept = num_kept(density, size, counting)
    top = min(int(gamma * size), size - kept)
    return Ranks(top + 1, top + kept)


def _thresholds(expert_names: tuple[str, ...], context: MergeContext) -> Thresholds:
    densities = per_expert(expert_names, context, "density")
    gammas = per_expert(expert_names, context, "gamma")
    counting = word(context.parameters, "counting")
    return Thresholds(
        experts=expert_names,
        ranks=lambda i, size: ranks_kept(densities[i], gammas[i], size, counting),
    )


def _middles(group: TensorGroup, context: MergeContext) -> list[torch.Tensor]:
    search, kept = _thresholds(group.expert_names, context), []
    for i, delta in enumerate(deltas(group)):
        most, least = search.find(i, context.statistics)
        kept.append(keep_from(keep_up_to(delta, most), least))
    return kept
