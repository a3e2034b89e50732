"""A mean over tasks that count alike, with the uncertainty of each task's own questions.

    value = 1/T sum_t mean_t        u_tc = sqrt( C_t / (C_t - 1) ) sum_{i in c} (s_i - mean_t) / n_t
    se = 1/T sqrt( sum_c ( sum_t u_tc )^2 )
    degrees of freedom (Welch, Satterthwaite) = (sum_t v_t)^2 / sum_t v_t^2 / (C_t - 1)

over T tasks t of n_t questions in C_t clusters c, v_t = sum_c u_tc^2. A cluster that several tasks
ask about is one cluster. The tasks are what is asked about, not a sample of tasks: how far apart
their means lie is no uncertainty.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr, stdtrit

from omnicompose.evaluation.statistics.intervals import LEVEL, Estimate, Floats, cluster_sums

Groups = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stratum:
    """One task's scores, summed per cluster.

    Attributes:
        sums: of the scores, `[C]`, in the order of the clusters' names.
        counts: questions, `[C]`.
    """

    sums: Floats
    counts: Floats

    @property
    def mean(self) -> float:
        """Over the questions."""
        return float(self.sums.sum() / self.counts.sum())

    @property
    def residuals(self) -> Floats:
        """How far each cluster moves the mean, `[C]`; NaN with fewer than two clusters."""
        number = len(self.sums)
        if number < 2:
            return np.full(number, np.nan)
        factor = np.sqrt(number / (number - 1)) / self.counts.sum()
        found: Floats = factor * (self.sums - self.counts * self.mean)
        return found


class Tested(NamedTuple):
    """A mean, and the two-sided p-value of its being 0 (1 where it cannot be tested)."""

    estimate: Estimate
    p_value: float


def stratum(scores: ArrayLike, clusters: Sequence[str]) -> Stratum:
    """One task's scores."""
    sums, counts = cluster_sums(scores, clusters)
    return Stratum(sums=sums, counts=counts)


def groups_of(clusters: Sequence[Sequence[str]]) -> Groups:
    """Which clusters of the tasks are the same, `[sum_t C_t]`, from every question's cluster."""
    names = [np.unique(np.asarray(one, dtype=object).astype(str)) for one in clusters]
    groups: Groups = np.unique(np.concatenate(names), return_inverse=True)[1]
    return groups


def minus(first: Sequence[Stratum], second: Sequence[Stratum]) -> list[Stratum]:
    """Paired differences of two rows that answered the same questions."""
    return [
        Stratum(sums=a.sums - b.sums, counts=a.counts) for a, b in zip(first, second, strict=True)
    ]


def mean_of_means(strata: Sequence[Stratum], groups: Groups) -> Tested:
    """The mean over the tasks with its 95 % interval, and whether it can be 0."""
    value = float(np.mean([one.mean for one in strata]))
    residuals = [one.residuals for one in strata]
    together = np.bincount(groups, weights=np.concatenate(residuals))
    stderr = float(np.sqrt(np.sum(together**2)) / len(strata))
    known = bool(np.isfinite(stderr))
    freedom = _freedom(residuals) if known and stderr else np.inf
    half = float(stdtrit(freedom, 0.5 + LEVEL / 2)) * stderr
    estimate = Estimate(
        value=value,
        stderr=stderr if known else None,
        low=value - half if known else None,
        high=value + half if known else None,
        method="t" if known else "none",
        n=int(sum(one.counts.sum() for one in strata)),
        clusters=len(together),
    )
    return Tested(estimate, _p_value(estimate, freedom, strata))


def _freedom(residuals: Sequence[Floats]) -> float:
    variances = np.array([np.sum(one**2) for one in residuals])
    spread = np.array([len(one) - 1 for one in residuals])
    return float(variances.sum() ** 2 / np.sum(variances**2 / spread))


def _p_value(found: Estimate, freedom: float, strata: Sequence[Stratum]) -> float:
    if found.stderr is None or not found.value:
        return 1.0
    if found.stderr > 0:
        return float(2 * stdtr(freedom, -abs(found.value) / found.stderr))
    # Every question of a task says the same: the chance that so many agree by their signs alone.
    return float(min(1.0, 2.0 ** (1 - sum(int(np.count_nonzero(one.sums)) for one in strata))))
