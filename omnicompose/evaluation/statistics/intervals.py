"""One score and its uncertainty: clustered standard errors, t and Wilson intervals.

    se = sqrt( C / (C - 1) * sum_c ( sum_{i in c} (s_i - mean) )^2 ) / n

over C clusters c (all questions about one medium, say) of n questions with scores s_i; after Miller
2024 (arXiv 2411.00640) with the finite-cluster factor. An unknown value is None, never 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri, stdtrit

from omnicompose.errors import EvaluationError

Floats = NDArray[np.float64]

LEVEL = 0.95
FEW_EVENTS = 15
"""Below so many right (or wrong) answers the t interval leaves [0, 1]; Wilson's does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A mean over questions and how well it is known.

    Attributes:
        value: the mean; None when there is no question.
        stderr: its clustered standard error; None with fewer than two clusters.
        low: lower end of the 95 % interval.
        high: upper end.
        method: how the interval was made: `t`, `wilson`, `bootstrap` or `none`.
        n: questions.
        clusters: groups of questions that are not independent of one another.
    """

    value: float | None
    stderr: float | None
    low: float | None
    high: float | None
    method: str
    n: int
    clusters: int


def cluster_sums(scores: ArrayLike, clusters: Sequence[str]) -> tuple[Floats, Floats]:
    """Sum of scores and number of questions per cluster, each `[C]`, in order of cluster name."""
    values = np.asarray(scores, dtype=np.float64)
    if len(values) != len(clusters):
        raise EvaluationError(
            f"statistics: {len(values)} scores but {len(clusters)} clusters; "
            "give every question exactly one cluster."
        )
    _, index = np.unique(np.asarray(clusters, dtype=object).astype(str), return_inverse=True)
    counts = np.bincount(index).astype(np.float64)
    return np.bincount(index, weights=values).astype(np.float64), counts


def clustered_stderr(scores: ArrayLike, clusters: Sequence[str]) -> float | None:
    """Standard error of the mean of `scores` when questions of one cluster hang together."""
    sums, counts = cluster_sums(scores, clusters)
    num_clusters, n = len(sums), counts.sum()
    if num_clusters < 2:
        return None
    residuals = sums - counts * (sums.sum() / n)
    factor = num_clusters / (num_clusters - 1)
    return float(np.sqrt(factor * np.sum(residuals**2)) / n)


def wilson_interval(share: float, n: float, level: float = LEVEL) -> tuple[float, float]:
    """Wilson's score interval of a share seen in `n` (effective) questions."""
    z = float(ndtri(0.5 + level / 2))
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def estimate(scores: ArrayLike, clusters: Sequence[str], *, share: bool = False) -> Estimate:
    """The mean of `scores` with its clustered 95 % interval.

    Args:
        scores: one number per question.
        clusters: one name per question.
        share: scores are 0 or 1; then few right or few wrong answers give Wilson's interval.
    """
    values = np.asarray(scores, dtype=np.float64)
    n, num_clusters = len(values), len(set(clusters))
    stderr = clustered_stderr(values, clusters)
    if n == 0 or stderr is None:
        mean = float(values.mean()) if n else None
        return _unknown(mean, n, num_clusters)
    mean = float(values.mean())
    if share and n * min(mean, 1 - mean) < FEW_EVENTS:
        low, high = wilson_interval(mean, _effective_size(mean, stderr, n, num_clusters))
        method = "wilson"
    else:
        half = float(stdtrit(num_clusters - 1, 0.5 + LEVEL / 2)) * stderr
        low, high, method = mean - half, mean + half, "t"
    return Estimate(
        value=mean, stderr=stderr, low=low, high=high, method=method, n=n, clusters=num_clusters
    )


def _unknown(mean: float | None, n: int, clusters: int) -> Estimate:
    return Estimate(
        value=mean, stderr=None, low=None, high=None, method="none", n=n, clusters=clusters
    )


def _effective_size(mean: float, stderr: float, n: int, num_clusters: int) -> float:
    """Independent questions that would give this standard error; the clusters if it is 0."""
    if stderr == 0:
        return float(num_clusters)
    return min(float(n), mean * (1 - mean) / stderr**2)
