"""ModelCompose's merges of LoRA factors as published: for reproduction, not for use.

    A = combine_i A_i,  B = combine_i B_i        each factor by itself, not their products
    W = W_0 + s B A                              s: alpha / r of the first expert

    sum, mean       over the experts, entry by entry
    ties-sum, -mean, -max   TIES over one flat vector of all factors of the model; `keep` is its K

This is no merge of what the experts do: the sum of n experts contains all products B_i A_j, the
mean of n equal ones is right only for n = 1, and a change (A, B) -> (-A, -B), which changes no
expert, changes the result. `linear`, `task_arithmetic` and `ties` merge the products.

Source: THUNLP-MT/ModelCompose, strategies of its merge script (specification of ModelCompose,
sections 1.3 and 2.4). Checked against its outputs (goldens of the streams).
"""

from collections.abc import Mapping
from dataclasses import replace

import torch

from omnicompose.errors import MergeError
from omnicompose.merging.method import (
    LowRank,
    MergeContext,
    MethodSpec,
    Parameter,
    ParameterValue,
    Survey,
    TensorGroup,
)
from omnicompose.merging.methods.deltas import mean_delta, number, word
from omnicompose.merging.methods.ties import SPEC as TIES_SPEC
from omnicompose.merging.methods.ties import Ties

TIES_PREFIX = "ties-"
SPEC = MethodSpec(
    name="modelcompose_factors",
    summary="ModelCompose's merges of LoRA factors A and B apart; to reproduce its numbers only.",
    formula="W = W_0 + s (combine_i B_i) (combine_i A_i)",
    paper="2402.12750",
    needs_base=True,
    num_passes=4,
    weighted=False,
    factored_ok=True,
    parameters=(
        Parameter(
            name="strategy",
            default="mean",
            description="how the factors are combined, in the words of the merge script",
            choices=("sum", "mean", "ties-sum", "ties-mean", "ties-max"),
        ),
        Parameter(
            name="keep",
            default=0.2,
            description="for ties: share of an expert's entries that is kept (-K 20 is 0.2)",
            minimum=0.0,
            maximum=1.0,
        ),
    ),
)


class ModelComposeFactors:
    """Factors merged one by one."""

    spec = SPEC
    _ties = Ties()

    def survey(self, parameters: Mapping[str, ParameterValue]) -> Survey:
        """TIES ranks the entries of the whole model."""
        if not str(parameters["strategy"]).startswith(TIES_PREFIX):
            return Survey(num_passes=0)
        return self._ties.survey(_ties_parameters(parameters))

    def observe(
        self, group: TensorGroup, context: MergeContext, observe_pass: int
    ) -> Mapping[str, torch.Tensor]:
        """What TIES observes of both factors."""
        inner = replace(context, parameters=_ties_parameters(context.parameters))
        total: dict[str, torch.Tensor] = {}
        if _untouched(group):
            return total
        for factors in _factor_groups(group):
            for name, value in self._ties.observe(factors, inner, observe_pass).items():
                total[name] = total[name] + value if name in total else value
        return total

    def merge(self, group: TensorGroup, context: MergeContext) -> torch.Tensor:
        """Base plus the product of the merged factors, fp32; 1-D tensors: mean delta."""
        assert group.base is not None
        if len(group.shape) != 2:
            return group.base + mean_delta(group)
        if _untouched(group):
            return group.base.clone()
        found = _low_rank(group)
        first, second = (self._combined(one, context) for one in _factor_groups(group))
        return torch.addmm(group.base, second, first, alpha=found[0].scale)

    def _combined(self, factors: TensorGroup, context: MergeContext) -> torch.Tensor:
        strategy = word(context.parameters, "strategy")
        if strategy.startswith(TIES_PREFIX):
            inner = replace(context, parameters=_ties_parameters(context.parameters))
            return self._ties.merge(factors, inner)
        total = torch.stack(factors.experts).sum(0)
        return total if strategy == "sum" else total / len(factors.experts)


def _ties_parameters(parameters: Mapping[str, ParameterValue]) -> Mapping[str, ParameterValue]:
    defaults = {parameter.name: parameter.default for parameter in TIES_SPEC.parameters}
    return {
        **defaults,
        **TIES_SPEC.profiles["paper"],
        "density": float(number(parameters, "keep")),
        "combine": str(parameters["strategy"]).removeprefix(TIES_PREFIX),
    }


def _factor_groups(group: TensorGroup) -> list[TensorGroup]:
    """Factors A and factors B of all experts as tensors to merge on a base of zeros."""
    found = _low_rank(group)
    sides = [tuple(one.A for one in found), tuple(one.B for one in found)]
    return [
        replace(
            group,
            shape=tuple(side[0].shape),
            base=torch.zeros_like(side[0]),
            experts=side,
            weights=(1.0,) * len(side),
            factors=(),
        )
        for side in sides
    ]


def _untouched(group: TensorGroup) -> bool:
    """Whether no expert's adapter has this tensor, as none has the embeddings."""
    if any(one is not None for one in group.factors):
        return False
    assert group.base is not None
    return all(torch.equal(expert, group.base) for expert in group.experts)


def _low_rank(group: TensorGroup) -> tuple[LowRank, ...]:
    found = tuple(one for one in group.factors if one is not None)
    if len(found) != len(group.experts) or len({one.A.shape for one in found}) != 1:
        raise MergeError(
            f"{group.name}: modelcompose_factors merges the factors of LoRA experts of one rank; "
            "expected every expert to have them. Take `linear` or `ties`, which merge what the "
            "experts do."
        )
    return found
