"""The inputs that reach no output, each with the reason."""

from collections.abc import Iterable

from omnicompose.experts.expert import Backbone, Expert, Origin
from omnicompose.families import role_of
from omnicompose.plan.plan import Entry
from omnicompose.plan.setting import Setting


def dropped_inputs(setting: Setting, entries: Iterable[Entry]) -> dict[Origin, str]:
    """A reason for every opened tensor that no entry uses, where there is one to give."""
    used = {origin for entry in entries for origin in entry.inputs}
    reasons: dict[Origin, str] = {}
    for origins, reason in _reasons(setting):
        for origin in origins:
            if origin not in used:
                reasons.setdefault(origin, reason)
    return reasons


def _reasons(setting: Setting) -> Iterable[tuple[Iterable[Origin], str]]:
    for origins in setting.base.weights.origins.values():
        yield origins, "the head is tied to the embeddings"
    for expert in setting.experts:
        yield from _expert_reasons(setting, expert)


def _expert_reasons(setting: Setting, expert: Expert) -> Iterable[tuple[Iterable[Origin], str]]:
    for name, origins in expert.text.weights.origins.items():
        yield origins, f"{role_of(name)}: the composite keeps the base's own"
    if expert.decoupled:
        yield _adapted(expert.own), f"modality: {setting.recipe.modality} uses the text weights"
    yield (
        expert.inventory,
        "replaced by an adapter's own copy, or a part of its folder that is not used",
    )


def _adapted(backbone: Backbone) -> list[Origin]:
    return [origin for origins in backbone.weights.origins.values() for origin in origins]
