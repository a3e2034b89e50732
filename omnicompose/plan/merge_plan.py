"""From a merge recipe to a plan: whole models of one architecture, or any safetensors by name."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from omnicompose.errors import PlanError
from omnicompose.experts.expert import Origin
from omnicompose.merging.job import Copy, Merge, TensorRef
from omnicompose.plan.participant import Key, Participant, open_participant
from omnicompose.plan.plan import Entry, Plan
from omnicompose.plan.treatment import Treatment, coefficient, treatment_of
from omnicompose.recipe import MergeRecipe, TextMerge
from omnicompose.recipe_values import Source, Weight
from omnicompose.tensors.source import TensorInfo

HEAD = "lm_head.weight"


@dataclass(frozen=True, slots=True, kw_only=True)
class MergePlan:
    """A plan with the model that lends configuration, tokenizer and tensor names.

    Attributes:
        plan: every tensor.
        recipe: what was asked for.
        base: the common ancestor; None where the method needs none.
        models: what is merged.
        donor: the base, or the first model where there is no base.
    """

    plan: Plan
    recipe: MergeRecipe
    base: Participant | None
    models: tuple[Participant, ...]
    donor: Participant

    def folders(self) -> dict[str, Path]:
        """Every folder that was opened, by how the user named it."""
        opened: dict[str, Path] = {}
        for participant in (*([self.base] if self.base else []), *self.models):
            opened |= participant.folders
        return opened

    def facts(self) -> dict[str, object]:
        """What a reader of the manifest wants to know beside recipe and hashes."""
        return {"files_from": self.donor.label, "counts": self.plan.counts()}

    def to_json(self) -> dict[str, object]:
        """The plan with the facts that explain it."""
        return {"facts": self.facts()} | self.plan.to_json()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ground:
    """What every tensor of a merge is planned on."""

    recipe: MergeRecipe
    base: Participant | None
    models: tuple[Participant, ...]
    donor: Participant
    num_layers: int

    def treatment(self, key: Key) -> Treatment:
        recipe = self.recipe
        text = TextMerge(method=recipe.method, parameters=recipe.parameters, profile=recipe.profile)
        role = None if key.part in ("", "backbone") else key.role
        return treatment_of(key.name, text, recipe.roles, recipe.overrides, role)

    def weights(self, key: Key, owners: Sequence[Participant]) -> tuple[float, ...]:
        given = {
            participant.label: (model.weight, model.label)
            for participant, model in zip(self.models, self.recipe.models, strict=True)
        }
        return tuple(self._weight(key, *given[owner.label]) for owner in owners)

    def _weight(self, key: Key, weight: Weight | None, label: str) -> float:
        return coefficient(weight, key.name, self.num_layers, len(self.models), label)


def make_merge_plan(recipe: MergeRecipe) -> MergePlan:
    """Decide what becomes of every tensor; headers only.

    Raises:
        SourceError: a model cannot be opened.
        PlanError: the models do not fit together, or a tensor cannot be accounted for.
        RecipeError: a method or parameter does not exist.
    """
    if recipe.vocabulary == "union":
        raise PlanError(
            "vocabulary: union is not available for merges yet; expected `base`. Models with more "
            "tokens than the base keep only its rows: set `roles: {embedding: base, head: base}`."
        )

    def opened(source: Source) -> Participant:
        raw = recipe.layout == "raw"
        return open_participant(source, raw=raw, allow_pickle=recipe.allow_pickle)

    base = opened(recipe.base) if recipe.base else None
    models = tuple(opened(model.source) for model in recipe.models)
    donor = base or models[0]
    layers = [key.layer for key in donor.keys.values() if key.layer is not None]
    ground = _Ground(
        recipe=recipe,
        base=base,
        models=models,
        donor=donor,
        num_layers=max(layers, default=-1) + 1,
    )
    _check_keys(ground)
    entries = [_entry(ground, name, key) for name, key in donor.keys.items()]
    return MergePlan(
        plan=_account(ground, entries), recipe=recipe, base=base, models=models, donor=donor
    )


def _check_keys(ground: _Ground) -> None:
    """Every model must have the donor's tensors, part by part, in its shapes, and no others."""
    problems = [line for model in ground.models for line in _misfits(ground.donor, model)]
    if problems:
        shown = "\n".join(problems[:10])
        more = f"\n... and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise PlanError(
            f"{shown}{more}\nThe models of a merge must be fine-tunes of one architecture. Take "
            "others, or give a multimodal model as the base of a plain language model."
        )


def _misfits(donor: Participant, model: Participant) -> list[str]:
    ours, theirs = donor.names(), model.names()
    their_parts = {(key.part, key.modality) for key in theirs}
    tied = {HEAD}
    lines = [
        f"{model.label}: lacks {ours[key]!r}, which {donor.label} has."
        for key in ours
        if key not in theirs and (key.part, key.modality) in their_parts and key.name not in tied
    ]
    lines += [
        f"{model.label}: has {name!r}, which {donor.label} lacks."
        for key, name in theirs.items()
        if key not in ours and key.name not in tied
    ]
    infos, other = donor.weights.source.infos(), model.weights.source.infos()
    return lines + [
        f"{model.label}: {theirs[key]} has shape {list(other[theirs[key]].shape)}, "
        f"{donor.label} has {list(infos[name].shape)}.{_vocabulary_hint(key)}"
        for key, name in ours.items()
        if key in theirs and other[theirs[key]].shape != infos[name].shape
    ]


def _vocabulary_hint(key: Key) -> str:
    if key.role in ("embedding", "head"):
        return " Their vocabularies differ: save them with the same number of rows first."
    return ""


def _entry(ground: _Ground, name: str, key: Key) -> Entry:
    info = ground.donor.weights.source.infos()[name]
    owners = [model for model in ground.models if key in model.names()]
    treatment = ground.treatment(key)
    if not info.dtype.is_floating_point:
        return _copy(ground, name, info, f"{info.dtype}: not a weight, {ground.donor.label}'s own")
    if not owners:
        return _copy(ground, name, info, f"only {ground.donor.label} has it")
    if treatment.method is None:
        return _copy(ground, name, info, f"{treatment.role}: {ground.donor.label}'s own")
    return _merge(ground, name, key, treatment, owners)


def _output(ground: _Ground, info: TensorInfo) -> TensorInfo:
    wanted = ground.recipe.dtype
    cast = wanted is not None and info.dtype.is_floating_point
    dtype: torch.dtype = getattr(torch, str(wanted)) if cast else info.dtype
    return TensorInfo(name=info.name, dtype=dtype, shape=info.shape)


def _copy(ground: _Ground, name: str, info: TensorInfo, reason: str) -> Entry:
    weights = ground.donor.weights
    return Entry(
        job=Copy(output=_output(ground, info), tensor=TensorRef(source=weights.source, name=name)),
        inputs=weights.origins[name],
        reason=reason,
    )


def _merge(
    ground: _Ground, name: str, key: Key, treatment: Treatment, owners: list[Participant]
) -> Entry:
    method = treatment.method
    if method is None:
        raise PlanError(f"{name}: nothing to merge.")
    _check_method(ground, treatment, len(owners))
    names = [owner.names()[key] for owner in owners]
    _check_dtypes(ground, names, owners)
    used = [*([(ground.base, name)] if ground.base else []), *zip(owners, names, strict=True)]
    weights = ground.weights(key, owners)
    if treatment.mean:
        weights = (1.0 / len(owners),) * len(owners)
    return Entry(
        job=Merge(
            output=_output(ground, ground.donor.weights.source.infos()[name]),
            method=method,
            parameters=treatment.parameters,
            base=TensorRef(source=ground.base.weights.source, name=name) if ground.base else None,
            experts=tuple(
                TensorRef(source=owner.weights.source, name=own)
                for owner, own in zip(owners, names, strict=True)
            ),
            expert_names=tuple(owner.label for owner in owners),
            weights=weights,
            role=treatment.role,
            layer=key.layer,
            num_layers=ground.num_layers,
            seed=ground.recipe.seed,
            key=key.name,
        ),
        inputs=_origins(used),
        reason=treatment.phrase(),
    )


def _origins(used: Sequence[tuple[Participant, str]]) -> tuple[Origin, ...]:
    every = (origin for one, name in used for origin in one.weights.origins[name])
    return tuple(dict.fromkeys(every))


def _check_method(ground: _Ground, treatment: Treatment, num_experts: int) -> None:
    spec = treatment.method.spec if treatment.method else None
    if spec is None:
        return
    if spec.needs_base and ground.base is None:
        raise PlanError(
            f"method {spec.name!r} works on distances from a common base, and the recipe names "
            "none. Add `base:`, or take a method that needs none: `omnicompose methods` lists them."
        )
    least, most = spec.arity
    if num_experts < least or (most is not None and num_experts > most):
        raise PlanError(
            f"method {spec.name!r} merges {least} to {most or 'any number of'} models, found "
            f"{num_experts}. Take another method: `omnicompose methods` lists them."
        )


def _check_dtypes(ground: _Ground, names: list[str], owners: list[Participant]) -> None:
    """Models stored in different precisions: the result's precision must be said."""
    found = {
        owner.label: owner.weights.source.infos()[name].dtype
        for owner, name in zip(owners, names, strict=True)
        # A product is fp32 whatever its parts are stored in.
        if len(owner.weights.origins[name]) == 1
    }
    if ground.recipe.dtype is None and len(set(found.values())) > 1:
        listed = ", ".join(f"{label}: {dtype}" for label, dtype in found.items())
        raise PlanError(
            f"{names[0]}: stored in different precisions ({listed}). Say what the result shall "
            "have: `dtype: bfloat16`."
        )


def _account(ground: _Ground, entries: list[Entry]) -> Plan:
    inventory = frozenset[Origin]().union(*(one.inventory for one in ground.models))
    if ground.base:
        inventory |= ground.base.inventory
    used = {origin for entry in entries for origin in entry.inputs}
    reasons = {entry.output.name: entry.reason for entry in entries}
    dropped: dict[Origin, str] = {}
    for model in ground.models:
        for name, origins in model.weights.origins.items():
            reason = reasons.get(name, "the head is tied to the embeddings")
            dropped |= {origin: f"not merged: {reason}" for origin in origins if origin not in used}
        for origin in model.inventory - used - set(dropped):
            dropped[origin] = "replaced by the adapter's own copy"
    return Plan(entries=tuple(entries), dropped=dropped, inventory=inventory)
