"""Do the modalities of one set of questions complement each other? From lines to numbers."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from omnicompose.evaluation.line import Line
from omnicompose.evaluation.results import Complementarity, RowKind
from omnicompose.evaluation.rows import Answered, answered
from omnicompose.evaluation.statistics import (
    Coalition,
    Comparison,
    Estimate,
    Floats,
    Rescue,
    bootstrap,
    coalitions,
    compare_paired,
    estimate,
    holm,
    rescue,
    shapley_values,
    synergy,
)
from omnicompose.evaluation.subsets import coalition

NUM_EXAMPLES = 10


def complementarity(
    group: str, score: RowKind, cells: Mapping[str, Sequence[Line]], seed: int
) -> Complementarity | None:
    """Compare one set of questions asked with all modalities, with each alone, and with subsets.

    Args:
        group: modalities that the questions show, `image+audio`.
        score: kind of score.
        cells: subset label to the lines asked with it.
        seed: of permutation tests and the bootstrap.

    Returns:
        None for a single modality, or when the full subset or a single one was not asked.
    """
    modalities = group.split("+")
    needed = [group, *modalities]
    if len(modalities) < 2 or any(label not in cells for label in needed):
        return None
    media = {
        given: answered(lines)
        for label, lines in cells.items()
        if (given := coalition(label)) is not None
    }
    ids, clusters = _shared_questions(media)
    scores = {given: _scores(asked, ids) for given, asked in media.items()}
    changed = rescue(scores, modalities)
    swapped, beyond = _rescued_swapped(modalities, cells, changed, (ids, clusters))
    complete = all(subset in scores for subset in coalitions(modalities))
    return Complementarity(
        group=group,
        score=score,
        n=len(ids),
        gains={
            m: compare_paired(
                scores[frozenset(modalities)], scores[frozenset([m])], clusters, seed=seed
            )
            for m in modalities
        },
        shapley=_shapley(scores, modalities, clusters, seed) if complete else None,
        synergy=_synergies(scores, modalities, clusters),
        rescued=_share(changed.rescued, clusters),
        rescued_swapped=swapped,
        rescued_beyond=beyond,
        lost=_share(changed.lost, clusters),
        oracle=_share(changed.oracle, clusters),
        rescued_ids=_first_ids(ids, changed.rescued),
        lost_ids=_first_ids(ids, changed.lost),
    )


def with_holm(entries: Iterable[Complementarity | None]) -> tuple[Complementarity, ...]:
    """The entries that there are, p-values of their gains corrected over all of them per score."""
    kept = [entry for entry in entries if entry is not None]
    corrected: dict[int, dict[str, Comparison]] = {i: dict(e.gains) for i, e in enumerate(kept)}
    for score in {entry.score for entry in kept}:
        places = [
            (i, single)
            for i, entry in enumerate(kept)
            if entry.score == score
            for single, gain in entry.gains.items()
            if gain.p_value is not None
        ]
        adjusted = holm([kept[i].gains[single].p_value or 0.0 for i, single in places])
        for (i, single), p_holm in zip(places, adjusted, strict=True):
            corrected[i][single] = replace(kept[i].gains[single], p_holm=p_holm)
    return tuple(e.model_copy(update={"gains": corrected[i]}) for i, e in enumerate(kept))


def _rescued_swapped(
    modalities: Sequence[str],
    cells: Mapping[str, Sequence[Line]],
    changed: Rescue,
    asked: tuple[Sequence[str], Sequence[str]],
) -> tuple[Estimate | None, Estimate | None]:
    """Rescue when one medium is another question's, and what is rescued beyond it.

    The other media are the question's own, so this is more than chance: what is left beyond it
    needs every modality. None unless every modality was swapped.
    """
    controls = [answered(cells.get(f"swapped:{m}", ())).by_id() for m in modalities]
    places = [k for k, i in enumerate(asked[0]) if all(i in control for control in controls)]
    if not places:
        return None, None
    means = np.mean([[c[asked[0][k]] for k in places] for c in controls], axis=0)
    by_chance = (1 - changed.oracle[places]) * means
    clusters = [asked[1][k] for k in places]
    return estimate(by_chance, clusters), estimate(changed.rescued[places] - by_chance, clusters)


def _shared_questions(media: Mapping[Coalition, Answered]) -> tuple[list[str], list[str]]:
    """Ids answered with every subset, sorted, and their clusters."""
    first, *others = media.values()
    shared = set(first.ids).intersection(*(asked.ids for asked in others))
    kept = [(i, c) for i, c in zip(first.ids, first.clusters, strict=True) if i in shared]
    return [i for i, _ in kept], [c for _, c in kept]


def _scores(asked: Answered, ids: Sequence[str]) -> Floats:
    scores = asked.by_id()
    return np.array([scores[i] for i in ids], dtype=np.float64)


def _shapley(
    scores: Mapping[Coalition, Floats],
    modalities: Sequence[str],
    clusters: Sequence[str],
    seed: int,
) -> dict[str, Estimate]:
    values = shapley_values(scores, modalities)
    return {m: bootstrap(values[m], clusters, seed=seed) for m in modalities}


def _synergies(
    scores: Mapping[Coalition, Floats],
    modalities: Sequence[str],
    clusters: Sequence[str],
) -> dict[str, Estimate]:
    return {
        "+".join(pair): estimate(synergy(scores, pair), clusters)
        for pair in combinations(modalities, 2)
        if all(subset in scores for subset in coalitions(pair))
    }


def _share(values: Floats, clusters: Sequence[str]) -> Estimate:
    """Averages over orders of the options are no counts, for which Wilson's interval is."""
    return estimate(values, clusters, share=bool(np.isin(values, (0.0, 1.0)).all()))


def _first_ids(ids: Sequence[str], flags: Floats) -> tuple[str, ...]:
    return tuple(i for i, flag in zip(ids, flags, strict=True) if flag == 1)[:NUM_EXAMPLES]
