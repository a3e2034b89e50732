"""What is known before the first tensor is planned: recipe, base, experts, their lineage."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from omnicompose.experts.expert import Base, Expert, Factor
from omnicompose.experts.lineage import Lineage
from omnicompose.plan.measuring import statistics_files
from omnicompose.plan.sharing import distinct
from omnicompose.plan.treatment import Treatment, coefficient, depth_of, treatment_of
from omnicompose.plan.vocabulary import Vocabulary
from omnicompose.recipe import ComposeRecipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """The ground that every planned tensor stands on.

    Attributes:
        recipe: what was asked for.
        base: the common language model.
        experts: in the recipe's order.
        lineage: how each expert's host lies to the base, by modality; absent where it is the base.
        vocabulary: the composite's tokens.
    """

    recipe: ComposeRecipe
    base: Base
    experts: tuple[Expert, ...]
    lineage: Mapping[str, Lineage]
    vocabulary: Vocabulary

    def folders(self) -> dict[str, Path]:
        """Every folder that was opened, by how the user named it."""
        opened = {self.base.label: self.base.folder}
        for expert in self.experts:
            opened |= expert.folders
        asked = self.recipe.experts.values()
        return opened | statistics_files([expert.statistics for expert in asked])

    @property
    def merged(self) -> tuple[Expert, ...]:
        """The experts whose backbones are merged: one under several modalities counts once."""
        return distinct(self.experts)

    @property
    def num_layers(self) -> int:
        """Blocks of the backbone."""
        number = self.base.config["num_hidden_layers"]
        if not isinstance(number, int):
            raise TypeError(f"num_hidden_layers is {number!r}")
        return number

    def treatment(self, name: str) -> Treatment:
        """What is done to a tensor of the backbone."""
        recipe = self.recipe
        return treatment_of(name, recipe.text, recipe.roles, recipe.overrides)

    def coefficients(self, name: str, treatment: Treatment) -> tuple[float, ...]:
        """One coefficient per expert for a tensor of the backbone."""
        num_experts = len(self.merged)
        if treatment.mean:
            return (1.0 / num_experts,) * num_experts
        return tuple(
            coefficient(
                self.recipe.experts[expert.modality].weight,
                name,
                depth_of(treatment.role, treatment.layer, self.num_layers),
                num_experts,
                expert.modality,
            )
            for expert in self.merged
        )

    def dtype(self, stored: torch.dtype) -> torch.dtype:
        """The dtype that a tensor is written in."""
        if self.recipe.dtype is None or not stored.is_floating_point:
            return stored
        dtype: torch.dtype = getattr(torch, self.recipe.dtype)
        return dtype

    def on_base(self, expert: Expert) -> bool:
        """Whether the expert's low-rank deltas are deltas to the base itself."""
        lineage = self.lineage.get(expert.modality)
        return lineage is None or lineage.identical

    def text_factors(self, name: str) -> tuple[tuple[float, Factor], ...] | None:
        """The merged text delta of a tensor as `sum of coefficient * factor`.

        None where the merge is not linear in the deltas, or a delta is not known as factors.
        """
        treatment = self.treatment(name)
        if treatment.method is None:
            return ()
        scale = _linear_scale(treatment, self.coefficients(name, treatment))
        if scale is None or not all(map(self.on_base, self.merged)):
            return None
        factors = [expert.text.factors.get(name) for expert in self.merged]
        if any(
            factor is None and name in expert.text.weights.origins and not _untouched(expert, name)
            for factor, expert in zip(factors, self.merged, strict=True)
        ):
            return None
        weights = self.coefficients(name, treatment)
        return tuple(
            (scale * weight, factor)
            for weight, factor in zip(weights, factors, strict=True)
            if factor is not None and weight != 0.0
        )


def _untouched(expert: Expert, name: str) -> bool:
    """Whether the expert's text side leaves this tensor as its host has it."""
    return expert.text.weights.origins[name] == expert.text.host.origins[name]


def _linear_scale(treatment: Treatment, weights: tuple[float, ...]) -> float | None:
    """What `sum of weight * delta` is multiplied with; None for methods that are not linear."""
    if treatment.steps:
        return None
    method, parameters = treatment.method, treatment.parameters
    total = math.fsum(weights)
    name = method.spec.name if method is not None else ""
    if name == "linear":
        if parameters["normalize"]:
            return 1.0 / total if total else None
        # Without normalisation the base itself is scaled by the sum of the weights.
        return 1.0 if math.isclose(total, 1.0) else None
    if name == "task_arithmetic":
        scale = float(parameters["scale"])  # type: ignore[arg-type]  # checked by the registry
        return scale / total if parameters["normalize"] else scale
    return None
