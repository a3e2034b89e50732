"""Two systems on the same questions: difference, exact tests, what could have been seen."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import bdtr, ndtri

from omnicompose.evaluation.statistics.intervals import (
    LEVEL,
    Estimate,
    Floats,
    cluster_sums,
    estimate,
)

PERMUTATIONS = 10_000
POWER = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Answers of system A and system B (1 right, 0 wrong) to the same questions.

    Attributes:
        difference: mean of A minus B.
        both: questions that both got right.
        only_a: right by A alone.
        only_b: right by B alone.
        neither: right by none.
        p_value: of the hypothesis that the two are equally good; None when it cannot be tested.
        test: `mcnemar` (every question its own cluster, right or wrong) or `sign-flip` (clusters
            or grades, 10,000 draws).
        p_holm: `p_value` corrected for all comparisons of its table; None until it is in one.
        detectable: the smallest difference that this many questions show with 80 % power; None
            with one cluster, or where no question is answered differently.
    """

    difference: Estimate
    both: int
    only_a: int
    only_b: int
    neither: int
    p_value: float | None
    test: str
    p_holm: float | None = None
    detectable: float | None


def mcnemar_exact(only_a: int, only_b: int) -> float:
    """Two-sided exact McNemar test from the numbers of discordant questions."""
    discordant = only_a + only_b
    if discordant == 0:
        return 1.0
    return min(1.0, 2 * float(bdtr(min(only_a, only_b), discordant, 0.5)))


def sign_flip_test(differences: ArrayLike, clusters: Sequence[str], seed: int) -> float:
    """Two-sided permutation test: under equality each cluster's summed difference has no sign."""
    sums, _ = cluster_sums(differences, clusters)
    sums = sums[sums != 0]
    if len(sums) == 0:
        return 1.0
    generator = np.random.default_rng(seed)
    seen = abs(sums.sum()) - 1e-9
    extreme, remaining = 0, PERMUTATIONS
    while remaining:  # in slices: 10,000 signs for each of 10,000 clusters would not fit in memory
        draws = min(remaining, 1000)
        signs = generator.integers(0, 2, size=(draws, len(sums)), dtype=np.int8) * 2.0 - 1.0
        extreme += int(np.count_nonzero(np.abs(signs @ sums) >= seen))
        remaining -= draws
    return (extreme + 1) / (PERMUTATIONS + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction, in the order given."""
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def detectable_difference(n: float, discordant: float) -> float:
    """Smallest paired difference found with 80 % power at the 5 % level.

    Args:
        n: (effective) questions.
        discordant: share of questions on which the two systems differ, in [0, 1].
    """
    z_alpha, z_power = float(ndtri(0.5 + LEVEL / 2)), float(ndtri(POWER))
    found = 0.0
    for _ in range(50):  # a contraction: d = (z_a sqrt(p) + z_b sqrt(p - d^2)) / sqrt(n)
        rest = max(0.0, discordant - found**2)
        found = (z_alpha * np.sqrt(discordant) + z_power * np.sqrt(rest)) / np.sqrt(n)
    return float(found)


def compare_paired(
    first: ArrayLike, second: ArrayLike, clusters: Sequence[str], *, seed: int = 0
) -> Comparison:
    """Compare two systems' scores of the same questions, in one order.

    Grades between right (1) and wrong (0) count in none of the four corners of the table.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    only_a, only_b = int(np.sum((a == 1) & (b == 0))), int(np.sum((a == 0) & (b == 1)))
    both = int(np.sum((a == 1) & (b == 1)))
    binary = bool(np.isin(np.concatenate([a, b]), (0.0, 1.0)).all())
    singletons = binary and len(set(clusters)) == len(a)
    difference = estimate(a - b, clusters)
    p_value = mcnemar_exact(only_a, only_b) if singletons else sign_flip_test(a - b, clusters, seed)
    return Comparison(
        difference=difference,
        both=both,
        only_a=only_a,
        only_b=only_b,
        neither=int(np.sum((a == 0) & (b == 0))),
        p_value=p_value if len(a) else None,
        test="mcnemar" if singletons else "sign-flip",
        detectable=_detectable(a - b, difference),
    )


def _detectable(differences: Floats, difference: Estimate) -> float | None:
    """`detectable_difference` with as many questions as the clusters leave independent.

    Without any question that the two answer differently there is nothing to judge by.
    """
    if difference.stderr is None or not np.any(differences):
        return None
    n = len(differences)
    independent = float(differences.var(ddof=1)) / n
    design_effect = max(1.0, difference.stderr**2 / independent) if independent > 0 else 1.0
    return detectable_difference(n / design_effect, float(np.mean(differences != 0)))
