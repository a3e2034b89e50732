"""Do the experts fit one backbone? Every misfit is found at once, before any work."""

from collections.abc import Mapping

from omnicompose.errors import PlanError
from omnicompose.experts.expert import Base, Expert
from omnicompose.experts.lineage import Lineage, compare_configs, compare_weights
from omnicompose.families import VOCABULARY_ROLES, role_of

UNRELATED_COSINE = 0.5
"""Below this, two backbones' weights point in unrelated directions: not one base."""


def check_experts(base: Base, experts: tuple[Expert, ...], *, allow_different_base: bool) -> None:
    """Compare every expert's backbone with the base, field by field and shape by shape.

    Raises:
        PlanError: one line per misfit, with both values.
    """
    misfits = [misfit for expert in experts for misfit in _misfits(base, expert)]
    if misfits:
        raise PlanError(
            "\n".join(misfits)
            + "\nExperts of one composite must descend from one base. Take experts of this base, "
            "or name the base that they share."
        )
    if not allow_different_base:
        _check_lineage(base, experts)


def lineages(base: Base, experts: tuple[Expert, ...]) -> Mapping[str, Lineage]:
    """How each expert's host lies to the base, by modality; none where it is the base itself."""
    return {
        expert.modality: compare_weights(
            base.weights.source, expert.text.host.source, _matrices(base)
        )
        for expert in experts
        if expert.text.host is not base.weights
    }


def _check_lineage(base: Base, experts: tuple[Expert, ...]) -> None:
    unrelated = [
        f"{expert.label}: its backbone is not related to {base.label}: sampled weights have cosine "
        f"{lineage.cosine:.3f} (expected close to 1) and relative distance "
        f"{lineage.relative_delta:.3f}."
        for expert in experts
        if (lineage := lineages(base, (expert,)).get(expert.modality)) is not None
        and lineage.cosine < UNRELATED_COSINE
    ]
    if unrelated:
        raise PlanError(
            "\n".join(unrelated)
            + "\nName the base that the experts share, or set `allow_different_base: true`."
        )


def _matrices(base: Base) -> list[str]:
    """Matrices of the blocks: vocabulary tables may differ in rows, and all norms look alike."""
    return [
        name
        for name, info in base.weights.source.infos().items()
        if len(info.shape) == 2 and role_of(name) not in VOCABULARY_ROLES
    ]


def _misfits(base: Base, expert: Expert) -> list[str]:
    differences = compare_configs(base.config, expert.text_config)
    misfits = [f"{expert.label} ({expert.modality}): {one}." for one in differences]
    if misfits:
        return misfits
    return [*_missing(base, expert), *_shape_misfits(base, expert)]


def _missing(base: Base, expert: Expert) -> list[str]:
    ours, theirs = set(base.weights.origins), set(expert.text.weights.origins)
    optional = {"lm_head.weight"} if base.config.get("tie_word_embeddings") else set()
    return [
        f"{expert.label} ({expert.modality}): its backbone lacks {name!r}, which {base.label} has."
        for name in sorted(ours - theirs - optional)
    ] + [
        f"{expert.label} ({expert.modality}): its backbone has {name!r}, which {base.label} lacks."
        for name in sorted(theirs - ours - optional)
    ]


def _shape_misfits(base: Base, expert: Expert) -> list[str]:
    ours, theirs = base.weights.source.infos(), expert.text.weights.source.infos()
    return [
        f"{expert.label} ({expert.modality}): {name} has shape {list(theirs[name].shape)}, "
        f"{base.label} has {list(info.shape)}."
        for name, info in ours.items()
        if name in theirs and _shape(name, theirs[name].shape) != _shape(name, info.shape)
    ]


def _shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """What must agree: all sizes, but only the width of a vocabulary table."""
    return shape[1:] if role_of(name) in VOCABULARY_ROLES else shape
