"""Do modalities complement each other? Exact Shapley values, synergy, rescue and loss.

    phi_m = sum over S without m of  |S|! (k - |S| - 1)! / k!  ( v(S + m) - v(S) )

v(S) is the score with only the modalities S given (the question's text always is). Everything is
computed per question and averaged, which the linearity of phi allows, so that clusters can be drawn
again. Shares of benefit, not of attention: a modality that is looked at in vain gets 0.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations
from math import factorial

import numpy as np
from numpy.typing import ArrayLike

from omnicompose.errors import EvaluationError
from omnicompose.evaluation.statistics.intervals import (
    LEVEL,
    Estimate,
    Floats,
    cluster_sums,
    clustered_stderr,
)

Coalition = frozenset[str]
BOOTSTRAP_DRAWS = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescue:
    """What giving everything at once changes against giving one modality at a time; each `[n]`.

    Attributes:
        rescued: 1 where every single modality is wrong and all together are right.
        lost: 1 where some single modality is right and all together are wrong.
        oracle: 1 where some single modality is right.
    """

    rescued: Floats
    lost: Floats
    oracle: Floats


def coalitions(modalities: Sequence[str]) -> list[Coalition]:
    """Every subset of `modalities`, the empty one first, by size."""
    sizes = range(len(modalities) + 1)
    return [frozenset(c) for c in chain.from_iterable(combinations(modalities, k) for k in sizes)]


def shapley_values(
    scores: Mapping[Coalition, ArrayLike], modalities: Sequence[str]
) -> dict[str, Floats]:
    """Shapley value of every modality for every question.

    Args:
        scores: for each of the 2^k subsets one score per question, `[n]`, in the same order.
        modalities: the k players.

    Returns:
        Per modality `[n]`; over modalities they add up to v(all) - v(none) for every question.

    Raises:
        EvaluationError: a subset is missing.
    """
    table = _checked(scores, modalities)
    k = len(modalities)
    values = {}
    for modality in modalities:
        others = [name for name in modalities if name != modality]
        values[modality] = np.asarray(
            sum(
                factorial(len(subset))
                * factorial(k - len(subset) - 1)
                / factorial(k)
                * (table[subset | {modality}] - table[subset])
                for subset in coalitions(others)
            ),
            dtype=np.float64,
        )
    return values


def synergy(scores: Mapping[Coalition, ArrayLike], pair: tuple[str, str]) -> Floats:
    """v(AB) - v(A) - v(B) + v(none) per question: above 0 more together than apart, below less."""
    table = _checked(scores, pair)
    first, second = frozenset(pair[:1]), frozenset(pair[1:])
    return table[first | second] - table[first] - table[second] + table[frozenset()]


def rescue(scores: Mapping[Coalition, ArrayLike], modalities: Sequence[str]) -> Rescue:
    """Which questions all modalities together rescue or lose, from scores in [0, 1]."""
    together = np.asarray(scores[frozenset(modalities)], dtype=np.float64)
    singles = np.stack([np.asarray(scores[frozenset([m])], dtype=np.float64) for m in modalities])
    oracle = singles.max(axis=0)
    return Rescue(rescued=(1 - oracle) * together, lost=oracle * (1 - together), oracle=oracle)


def bootstrap(scores: ArrayLike, clusters: Sequence[str], *, seed: int = 0) -> Estimate:
    """The mean of `scores` with a 95 % percentile interval over redrawn clusters."""
    values = np.asarray(scores, dtype=np.float64)
    sums, counts = cluster_sums(values, clusters)
    stderr = clustered_stderr(values, clusters)
    low = high = None
    if stderr is not None:
        generator = np.random.default_rng(seed)
        means = np.concatenate([_redrawn_means(sums, counts, generator) for _ in range(20)])
        low, high = (float(q) for q in np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
    return Estimate(
        value=float(values.mean()) if len(values) else None,
        stderr=stderr,
        low=low,
        high=high,
        method="bootstrap" if stderr is not None else "none",
        n=len(values),
        clusters=len(sums),
    )


def _redrawn_means(sums: Floats, counts: Floats, generator: np.random.Generator) -> Floats:
    """Means over a twentieth of the draws: all of them at once would not fit for big benchmarks."""
    drawn = generator.integers(len(sums), size=(BOOTSTRAP_DRAWS // 20, len(sums)))
    means: Floats = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return means


def _checked(
    scores: Mapping[Coalition, ArrayLike], modalities: Sequence[str]
) -> dict[Coalition, Floats]:
    missing = [subset for subset in coalitions(modalities) if subset not in scores]
    if missing:
        named = ", ".join("+".join(sorted(subset)) or "none" for subset in missing)
        raise EvaluationError(
            f"statistics: scores for the subsets {named} are missing, and Shapley values and "
            "synergies need every subset; evaluate with --modalities subsets."
        )
    return {
        subset: np.asarray(scores[subset], dtype=np.float64) for subset in coalitions(modalities)
    }
