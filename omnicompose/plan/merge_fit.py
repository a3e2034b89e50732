"""Do the models of a plain merge fit together? Every misfit is found at once, before any work."""

from collections.abc import Mapping, Sequence

from omnicompose.errors import PlanError
from omnicompose.families import VOCABULARY_ROLES
from omnicompose.merging.method import MethodSpec
from omnicompose.plan.merge_vocabulary import tensor_names
from omnicompose.plan.participant import Key, Participant

MOST_SHOWN = 10


def check_keys(donor: Participant, models: Sequence[Participant], kept: frozenset[Key]) -> None:
    """Every model must have the donor's tensors, part by part, in its shapes, and no others.

    Args:
        donor: lends names and shapes.
        models: what is merged.
        kept: the donor's own tensors stay here, so that other shapes do no harm.

    Raises:
        PlanError: one line per misfit.
    """
    problems = [line for model in models for line in _misfits(donor, model, kept)]
    if problems:
        shown = "\n".join(problems[:MOST_SHOWN])
        left = len(problems) - MOST_SHOWN
        more = f"\n... and {left} more" if left > 0 else ""
        raise PlanError(
            f"{shown}{more}\nThe models of a merge must be fine-tunes of one architecture. Take "
            "others, or give a multimodal model as the base of a plain language model."
        )


def _misfits(donor: Participant, model: Participant, kept: frozenset[Key]) -> list[str]:
    ours, theirs = donor.names(), tensor_names(model, donor)
    their_parts = {(key.part, key.modality) for key in theirs}
    lines = [
        f"{model.label}: lacks {ours[key]!r}, which {donor.label} has."
        for key in ours
        if key not in theirs and (key.part, key.modality) in their_parts
    ]
    lines += [
        f"{model.label}: has {name!r}, which {donor.label} lacks."
        for key, name in theirs.items()
        if key not in ours
    ]
    infos, other = donor.weights.source.infos(), model.weights.source.infos()
    return lines + [
        f"{model.label}: {theirs[key]} has shape {list(other[theirs[key]].shape)}, "
        f"{donor.label} has {list(infos[name].shape)}.{_vocabulary_hint(key)}"
        for key, name in ours.items()
        if key in theirs and key not in kept and other[theirs[key]].shape != infos[name].shape
    ]


def _vocabulary_hint(key: Key) -> str:
    if key.role in VOCABULARY_ROLES:
        return (
            " Their vocabularies differ: set `vocabulary: union`, or keep the tables with "
            "`roles: {embedding: base, head: base}`."
        )
    return ""


def check_method(spec: MethodSpec, num_models: int, *, has_base: bool) -> None:
    """Refuse a method that cannot merge so many models, or not without a base.

    Raises:
        PlanError: naming the method.
    """
    if spec.needs_base and not has_base:
        raise PlanError(
            f"method {spec.name!r} works on distances from a common base, and the recipe names "
            "none. Add `base:`, or take a method that needs none: `omnicompose methods` lists them."
        )
    least, most = spec.arity
    if num_models < least or (most is not None and num_models > most):
        wanted = f"{least}" if least == most else f"{least} to {most or 'any number of'}"
        raise PlanError(
            f"method {spec.name!r} merges {wanted} models, found {num_models}. Take another "
            "method: `omnicompose methods` lists them."
        )


def check_weights(spec: MethodSpec, weights: Sequence[float]) -> None:
    """Refuse unequal coefficients for a method that does not look at them.

    Raises:
        PlanError: naming the method and the coefficients.
    """
    if not spec.weighted and len(set(weights)) > 1:
        raise PlanError(
            f"method {spec.name!r} does not weight its models, and the recipe gives them "
            f"{', '.join(f'{weight:g}' for weight in weights)}. Leave `weight` out, or take a "
            "method that uses it: `omnicompose methods NAME` says which do."
        )


def check_dtypes(name: str, found: Mapping[str, object]) -> None:
    """Models stored in different precisions: the result's precision must be said.

    Args:
        name: of the tensor.
        found: dtype by model.

    Raises:
        PlanError: they differ.
    """
    if len(set(found.values())) > 1:
        listed = ", ".join(f"{label}: {dtype}" for label, dtype in found.items())
        raise PlanError(
            f"{name}: stored in different precisions ({listed}). Say what the result shall "
            "have: `dtype: bfloat16`."
        )
