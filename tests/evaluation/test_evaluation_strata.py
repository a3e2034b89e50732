"""A mean over tasks: one task is the plain estimate, shared clusters count once."""

import numpy as np
import pytest

from omnicompose.evaluation.statistics import (
    Stratum,
    estimate,
    groups_of,
    mean_of_means,
    minus,
    stratum,
)

RNG = np.random.default_rng(0)
SCORES = RNG.random(60).round()
CLUSTERS = [str(i // 3) for i in range(60)]


def test_one_task_is_the_plain_estimate() -> None:
    found = mean_of_means([stratum(SCORES, CLUSTERS)], groups_of([CLUSTERS])).estimate
    plain = estimate(SCORES, CLUSTERS)
    assert (found.n, found.clusters, found.method) == (plain.n, plain.clusters, plain.method)
    for name in ("value", "stderr", "low", "high"):
        assert getattr(found, name) == pytest.approx(getattr(plain, name))


def test_a_cluster_that_two_tasks_ask_about_counts_once() -> None:
    strata = [stratum(SCORES, CLUSTERS)] * 2
    shared = mean_of_means(strata, groups_of([CLUSTERS, CLUSTERS])).estimate
    apart = mean_of_means(strata, groups_of([CLUSTERS, [f"b{c}" for c in CLUSTERS]])).estimate
    alone = estimate(SCORES, CLUSTERS).stderr
    assert alone is not None and shared.stderr == pytest.approx(alone)
    assert apart.stderr == pytest.approx(alone / np.sqrt(2))
    assert (shared.clusters, apart.clusters) == (20, 40)


def test_intervals_hold_what_they_promise() -> None:
    """Tasks of unlike size and difficulty, clustered: about 95 of 100 intervals hold the truth."""
    hits, shares, sizes = 0, (0.2, 0.9), (30, 12)
    truth = float(np.mean(shares))
    names = [[f"{t} {i // 2}" for i in range(2 * n)] for t, n in enumerate(sizes)]
    groups = groups_of(names)
    for _ in range(1000):
        strata = []
        for own, share, count in zip(names, shares, sizes, strict=True):
            rights = np.repeat(RNG.random(count) < share, 2).astype(float)
            strata.append(stratum(rights, own))
        found = mean_of_means(strata, groups).estimate
        hits += bool((found.low or 0) <= truth <= (found.high or 0))
    assert 915 <= hits <= 975


def test_a_difference_without_spread_is_tested_by_its_signs() -> None:
    def p_value(count: int) -> float:
        names = [str(i) for i in range(count)]
        right, wrong = stratum([1.0] * count, names), stratum([0.0] * count, names)
        return mean_of_means(minus([right], [wrong]), groups_of([names])).p_value

    assert p_value(4) == pytest.approx(2 / 2**4)
    assert p_value(20) < 1e-5


def test_one_cluster_tells_nothing() -> None:
    found = mean_of_means([stratum([1.0, 0.0, 1.0], ["a"] * 3)], groups_of([["a"] * 3]))
    assert found.estimate.stderr is found.estimate.low is None and found.p_value == 1.0
    assert found.estimate.value == pytest.approx(2 / 3)


def test_equal_rows_do_not_differ() -> None:
    one = [Stratum(sums=np.array([1.0, 0.0]), counts=np.array([2.0, 2.0]))]
    found = mean_of_means(minus(one, one), groups_of([["a", "b"]]))
    assert (found.estimate.value, found.estimate.low, found.p_value) == (0.0, 0.0, 1.0)
