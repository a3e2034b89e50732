"""One planned tensor of a plain merge: merged over all models that have it, or the donor's own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch

from omnicompose.experts.expert import Origin
from omnicompose.merging.job import Copy, Measure, Merge, TensorRef
from omnicompose.merging.method import Method
from omnicompose.plan.measuring import measures_of
from omnicompose.plan.merge_fit import check_dtypes, check_method, check_weights
from omnicompose.plan.merge_vocabulary import tensor_names
from omnicompose.plan.participant import Key, Participant
from omnicompose.plan.plan import Entry
from omnicompose.plan.treatment import (
    Treatment,
    coefficient,
    depth_of,
    treatment_of,
    uses_factors,
)
from omnicompose.recipe import MergeRecipe, TextMerge
from omnicompose.tensors.source import TensorInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What every tensor of a merge is planned on.

    Attributes:
        recipe: what was asked for.
        base: the common ancestor, if there is one.
        models: what is merged.
        names: of every model, its tensors by key.
        donor: lends names, shapes and precision.
        num_layers: blocks of the backbone.
    """

    recipe: MergeRecipe
    base: Participant | None
    models: tuple[Participant, ...]
    names: tuple[dict[Key, str], ...]
    donor: Participant
    num_layers: int

    @classmethod
    def of(
        cls, recipe: MergeRecipe, base: Participant | None, models: tuple[Participant, ...]
    ) -> Self:
        """The ground of a recipe whose models are opened.

        Raises:
            PlanError: a model has a head that the result has no place for.
        """
        donor = base or models[0]
        layers = [key.layer for key in donor.keys.values() if key.layer is not None]
        return cls(
            recipe=recipe,
            base=base,
            models=models,
            names=tuple(tensor_names(model, donor) for model in models),
            donor=donor,
            num_layers=max(layers, default=-1) + 1,
        )

    def treatment(self, key: Key) -> Treatment:
        """What is done to a tensor."""
        recipe = self.recipe
        text = TextMerge(
            method=recipe.method,
            parameters=recipe.parameters,
            profile=recipe.profile,
            then=recipe.then,
        )
        role = None if key.part in ("", "backbone") else key.role
        return treatment_of(key.name, text, recipe.roles, recipe.overrides, role)

    def weights(self, key: Key, owners: Sequence[int]) -> tuple[float, ...]:
        """The coefficients of the models that have a tensor."""
        asked = [self.recipe.models[number] for number in owners]
        in_front = key.part not in ("", "backbone")
        depth = 0.0 if in_front else depth_of(key.role, key.layer, self.num_layers)
        return tuple(
            coefficient(model.weight, key.name, depth, len(self.models), model.label)
            for model in asked
        )

    def measures(
        self, key: Key, treatment: Treatment, owners: Sequence[int]
    ) -> tuple[Measure | None, ...]:
        """What was measured of the models that have a tensor."""
        assert treatment.method is not None
        models = {self.recipe.models[n].label: self.recipe.models[n].statistics for n in owners}
        return measures_of(treatment.method.spec, treatment.parameters, models, key.name)

    def output(self, info: TensorInfo) -> TensorInfo:
        """A tensor as it will be written."""
        wanted = self.recipe.dtype
        cast = wanted is not None and info.dtype.is_floating_point
        dtype: torch.dtype = getattr(torch, str(wanted)) if cast else info.dtype
        return TensorInfo(name=info.name, dtype=dtype, shape=info.shape)


def merge_entry(ground: Ground, name: str, key: Key) -> Entry:
    """What becomes of one tensor of the donor.

    Raises:
        PlanError: the method cannot merge so many models, or their precisions differ.
    """
    info = ground.donor.weights.source.infos()[name]
    owners = [number for number, names in enumerate(ground.names) if key in names]
    treatment = ground.treatment(key)
    if not info.dtype.is_floating_point:
        return _copy(ground, name, info, f"{info.dtype}: not a weight, {ground.donor.label}'s own")
    if not owners:
        return _copy(ground, name, info, f"only {ground.donor.label} has it")
    if treatment.method is None:
        return _copy(ground, name, info, f"{treatment.role}: {ground.donor.label}'s own")
    return _merge(ground, name, key, treatment, owners)


def _copy(ground: Ground, name: str, info: TensorInfo, reason: str) -> Entry:
    weights = ground.donor.weights
    return Entry(
        job=Copy(output=ground.output(info), tensor=TensorRef(source=weights.source, name=name)),
        inputs=weights.origins[name],
        reason=reason,
    )


def _merge(
    ground: Ground, name: str, key: Key, treatment: Treatment, owners: Sequence[int]
) -> Entry:
    method = treatment.method
    assert method is not None
    models = [ground.models[number] for number in owners]
    names = [ground.names[number][key] for number in owners]
    weights = (1.0 / len(owners),) * len(owners)
    if not treatment.mean:
        weights = ground.weights(key, owners)
    check_method(method.spec, len(owners), has_base=ground.base is not None)
    check_weights(method.spec, weights)
    _check_dtypes(ground, names, models)
    base = ground.base
    job = Merge(
        output=ground.output(ground.donor.weights.source.infos()[name]),
        method=method,
        parameters=treatment.parameters,
        base=TensorRef(source=base.weights.source, name=name) if base else None,
        experts=tuple(
            TensorRef(source=model.weights.source, name=own)
            for model, own in zip(models, names, strict=True)
        ),
        expert_names=tuple(ground.recipe.models[number].label for number in owners),
        weights=weights,
        role=treatment.role,
        layer=key.layer,
        num_layers=ground.num_layers,
        seed=ground.recipe.seed,
        key=key.name,
        use_factors=_use_factors(ground, method, treatment, models),
        measures=() if treatment.mean else ground.measures(key, treatment, owners),
    )
    used = [*([(base, name)] if base else []), *zip(models, names, strict=True)]
    return Entry(job=treatment.staged(job), inputs=_origins(used), reason=treatment.phrase())


def _use_factors(
    ground: Ground, method: Method, treatment: Treatment, models: Sequence[Participant]
) -> bool:
    """Whether every model is a LoRA on exactly the base."""
    base = ground.base
    return (
        base is not None
        and uses_factors(method.spec, treatment.parameters)
        and not _is_adapted(base)
        and all(_is_adapted(model) and _same_host(model, base) for model in models)
    )


def _is_adapted(model: Participant) -> bool:
    return len(model.folders) > 1


def _same_host(model: Participant, base: Participant) -> bool:
    return model.folder.resolve() == base.folder.resolve()


def _origins(used: Sequence[tuple[Participant, str]]) -> tuple[Origin, ...]:
    every = (origin for one, name in used for origin in one.weights.origins[name])
    return tuple(dict.fromkeys(every))


def _check_dtypes(ground: Ground, names: Sequence[str], models: Sequence[Participant]) -> None:
    if ground.recipe.dtype is None:
        found = {
            model.label: model.weights.source.infos()[name].dtype
            for model, name in zip(models, names, strict=True)
            # A product is fp32 whatever its parts are stored in.
            if len(model.weights.origins[name]) == 1
        }
        check_dtypes(names[0], found)
