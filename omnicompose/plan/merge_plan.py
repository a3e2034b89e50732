"""From a merge recipe to a plan: whole models of one architecture, or any tensors by name."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omnicompose.errors import PlanError
from omnicompose.experts.expert import Origin
from omnicompose.merging.job import merges
from omnicompose.plan.bundle_entries import bundle_entries
from omnicompose.plan.measuring import statistics_files
from omnicompose.plan.merge_entries import Ground, merge_entry
from omnicompose.plan.merge_fit import check_keys
from omnicompose.plan.merge_vocabulary import align
from omnicompose.plan.participant import Participant, open_participant
from omnicompose.plan.plan import Entry, Plan
from omnicompose.plan.token_union import TokenUnion
from omnicompose.recipe import MergeRecipe
from omnicompose.recipe_values import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class MergePlan:
    """A plan with the model that lends configuration, tokenizer and tensor names.

    Attributes:
        plan: every tensor.
        recipe: what was asked for.
        base: the common ancestor; None where the method needs none.
        models: what is merged.
        donor: the base, or the first model where there is no base.
        union: the joint vocabulary; None where the donor's is kept.
    """

    plan: Plan
    recipe: MergeRecipe
    base: Participant | None
    models: tuple[Participant, ...]
    donor: Participant
    union: TokenUnion | None

    def folders(self) -> dict[str, Path]:
        """Every folder that was opened, by how the user named it."""
        opened: dict[str, Path] = {}
        for participant in (*([self.base] if self.base else []), *self.models):
            opened |= participant.folders
        return opened | statistics_files([model.statistics for model in self.recipe.models])

    def facts(self) -> dict[str, object]:
        """What a reader of the manifest wants to know beside recipe and hashes."""
        facts: dict[str, object] = {"files_from": self.donor.label, "counts": self.plan.counts()}
        return facts if self.union is None else facts | {"vocabulary": self.union.facts()}

    def to_json(self) -> dict[str, object]:
        """The plan with the facts that explain it."""
        return {"facts": self.facts()} | self.plan.to_json()


def make_merge_plan(recipe: MergeRecipe) -> MergePlan:
    """Decide what becomes of every tensor; headers and tokenizers only.

    Raises:
        SourceError: a model cannot be opened.
        PlanError: the models do not fit together, or a tensor cannot be accounted for.
        RecipeError: a method or parameter does not exist.
    """
    base, models, union = _opened(recipe)
    ground = Ground.of(recipe, base, models)
    kept = frozenset(
        key for key in ground.donor.keys.values() if ground.treatment(key).method is None
    )
    check_keys(ground.donor, models, kept)
    entries = [merge_entry(ground, name, key) for name, key in ground.donor.keys.items()]
    _check_merges(ground, entries)
    if recipe.output == "bundle":
        _check_bundle(recipe)
        entries = bundle_entries(entries)
    return MergePlan(
        plan=_account(ground, entries),
        recipe=recipe,
        base=base,
        models=models,
        donor=ground.donor,
        union=union,
    )


def _opened(
    recipe: MergeRecipe,
) -> tuple[Participant | None, tuple[Participant, ...], TokenUnion | None]:
    def opened(source: Source) -> Participant:
        raw = recipe.layout == "raw"
        return open_participant(source, raw=raw, allow_pickle=recipe.allow_pickle)

    base = opened(recipe.base) if recipe.base else None
    models = tuple(opened(model.source) for model in recipe.models)
    if recipe.vocabulary == "base":
        return base, models, None
    if recipe.layout == "raw":
        raise PlanError(
            "vocabulary: union needs tokenizers, and `layout: raw` is of tensors alone. Take "
            "`layout: model`, or leave `vocabulary` at `base`."
        )
    aligned, union = align((*((base,) if base else ()), *models))
    return (aligned[0] if base else None), tuple(aligned[-len(models) :]), union


def _check_merges(ground: Ground, entries: Sequence[Entry]) -> None:
    if any(merges(entry.job) for entry in entries):
        return
    label = ground.donor.label
    raise PlanError(
        f"{label}: found {len(entries)} tensors, and none of them would be merged; expected some "
        "floating-point tensors that the models share and the recipe does not keep. Check the "
        "models with `omnicompose inspect`, and `roles` and `layers` in the recipe."
    )


def _check_bundle(recipe: MergeRecipe) -> None:
    if recipe.vocabulary == "union":
        raise PlanError(
            "output: bundle is laid over the base's own tables, and `vocabulary: union` makes "
            "others. Leave `vocabulary` at `base`."
        )


def _account(ground: Ground, entries: list[Entry]) -> Plan:
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
    if ground.recipe.output == "bundle" and ground.base:
        for origin in ground.base.inventory - used:
            dropped[origin] = "not merged: read from the base when the bundle is loaded"
    return Plan(entries=tuple(entries), dropped=dropped, inventory=inventory)
