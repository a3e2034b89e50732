"""Do the experts fit one backbone? Every misfit is found at once, before any work."""

from collections.abc import Mapping
from itertools import combinations

from omnicompose.errors import PlanError
from omnicompose.experts.expert import Base, Expert
from omnicompose.experts.lineage import Lineage, compare_weights, delta_cosine
from omnicompose.experts.lineage_fields import compare_configs, unrelated
from omnicompose.families import VOCABULARY_ROLES, role_of

SHARED_WAY_COSINE = 0.5
"""Above this, what two deltas have in common outweighs what each has of its own: s + e1 and s + e2
have the cosine |s|^2 / (|s|^2 + |e|^2). Between five published fine-tunes of one base it is below
0.05, and 0.15 for one pair (specs/optmerge.md 7.7)."""
UNEQUAL_DISTANCES = 10
"""Fine-tunes of one base that lie so unequally far from it are not taken on trust: of the energy of
their mean delta, the nearer has then 1 %. Those five differ by 2.1 at most."""


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
    found = {
        modality: lineage
        for modality, lineage in lineages(base, experts).items()
        if not lineage.identical
    }
    moved = [expert for expert in experts if expert.modality in found]
    problems = [
        *_unrelated(base, moved, found),
        *_shared_ways(base, moved),
        *_unequal_distances(base, moved, found),
    ]
    if problems:
        raise PlanError(
            "\n".join(problems)
            + "\nName the base that the experts share, or set `allow_different_base: true`."
        )


def _unrelated(base: Base, experts: list[Expert], found: Mapping[str, Lineage]) -> list[str]:
    said = (
        unrelated(expert.label, base.label, lineage.cosine, lineage.relative_delta)
        for expert in experts
        if (lineage := found[expert.modality])
    )
    return [problem for problem in said if problem is not None]


def _shared_ways(base: Base, experts: list[Expert]) -> list[str]:
    """Experts that moved away from the base together: they started from another model."""
    names = _matrices(base)
    cosines = {
        (first.label, second.label): delta_cosine(
            base.weights.source, first.text.host.source, second.text.host.source, names
        )
        for first, second in combinations(experts, 2)
        if first.label != second.label
    }
    return [
        f"{first} and {second} share the way from {base.label}: their differences to it have "
        f"cosine {cosine:.3f} (expected close to 0), so both started from another model, such as "
        "its instruct version."
        for (first, second), cosine in cosines.items()
        if cosine > SHARED_WAY_COSINE
    ]


def _unequal_distances(
    base: Base, experts: list[Expert], found: Mapping[str, Lineage]
) -> list[str]:
    """One expert far from the base beside one close to it: they may have started elsewhere."""
    if len(experts) < 2:
        return []
    distances = {expert.label: found[expert.modality].relative_delta for expert in experts}
    near, far = min(distances, key=distances.__getitem__), max(distances, key=distances.__getitem__)
    if distances[far] <= UNEQUAL_DISTANCES * distances[near]:
        return []
    problem = (
        f"{far} lies at relative distance {distances[far]:.3g} from {base.label}, {near} at "
        f"{distances[near]:.3g}: more than {UNEQUAL_DISTANCES} times as near, so they seem to "
        "have started from different models (a base against its instruct version, for one)."
    )
    return [problem]


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
