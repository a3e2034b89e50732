"""One expert under several modalities: its towers are stored once, its backbone counts once."""

from collections.abc import Sequence
from dataclasses import replace

from omnicompose.errors import PlanError
from omnicompose.experts.expert import Expert, Module, Weights
from omnicompose.experts.native_module import NATIVE
from omnicompose.recipe import ComposeRecipe
from omnicompose.tensors.joined import JoinedSource
from omnicompose.tensors.selected import SelectedSource

SHARED = "shared"
"""The encoder type of a modality whose media go through another modality's encoder."""


def distinct(experts: Sequence[Expert]) -> tuple[Expert, ...]:
    """Every backbone once: a family's checkpoint under the first modality that names it.

    A folder of adapters for several modalities holds another backbone for each of them.
    """
    first = {expert.label: expert for expert in reversed(experts)}
    return tuple(
        expert
        for expert in experts
        if first[expert.label] is expert or expert.encoder.type not in (NATIVE, SHARED)
    )


def share_encoders(recipe: ComposeRecipe, experts: Sequence[Expert]) -> tuple[Expert, ...]:
    """Experts whose family runs as it is, with one encoder for all modalities of one source.

    Raises:
        PlanError: the recipe gives one source two weights, or asks for bundles of it.
    """
    owners = {expert.label: expert for expert in reversed(experts)}
    groups = {
        label: [one for one in experts if one.label == label and one.encoder.type == NATIVE]
        for label in owners
    }
    shared: list[Expert] = []
    for expert in experts:
        group = groups[expert.label]
        if len(group) < 2 or expert not in group:
            shared.append(expert)
        elif expert is group[0]:
            _check(recipe, group)
            shared.append(replace(expert, encoder=_joined(group)))
        else:
            shared.append(replace(expert, encoder=_reference(expert, group[0].modality)))
    return tuple(shared)


def _check(recipe: ComposeRecipe, group: list[Expert]) -> None:
    weights = [recipe.experts[expert.modality].weight for expert in group]
    names = " and ".join(expert.modality for expert in group)
    if any(weight != weights[0] for weight in weights):
        raise PlanError(
            f"{group[0].label}: the recipe gives it the weights {weights} under {names}. It is one "
            "backbone and counts once: give it one weight, the same under each."
        )
    if recipe.modality == "emr":
        raise PlanError(
            f"{group[0].label}: `modality: emr` keeps one mask per modality, but {names} are one "
            "expert. Take `exact`, `masked` or `merged`."
        )


def _joined(group: list[Expert]) -> Module:
    """The first one's encoder, grown by what the others need."""
    first, settings = group[0], [dict(expert.encoder.config) for expert in group]
    unused = [_words(one, "unused") for one in settings]
    ids = [name for one in settings for name in _words(one, "ids")]
    source, origins = first.encoder.weights.source, dict(first.encoder.weights.origins)
    for expert in group[1:]:
        own = expert.encoder.weights
        missing = {name: name for name in own.origins if name not in origins}
        source = JoinedSource(first.label, [source, SelectedSource(own.source, missing)])
        origins |= {name: own.origins[name] for name in missing}
    return Module(
        type=NATIVE,
        config=settings[0]
        | {
            "ids": list(dict.fromkeys(ids)),
            "unused": [child for child in unused[0] if all(child in one for one in unused)],
        },
        weights=Weights(source=source, origins=origins),
    )


def _reference(expert: Expert, owner: str) -> Module:
    weights = Weights(source=SelectedSource(expert.encoder.weights.source, {}), origins={})
    return Module(type=SHARED, config={"with": owner}, weights=weights)


def _words(settings: dict[str, object], key: str) -> list[str]:
    value = settings[key]
    return list(value) if isinstance(value, list) else []
