"""The oracles of specs/evaluation.md section 7 that concern numbers."""

import numpy as np
import pytest
from scipy.stats import binomtest

from omnicompose.errors import EvaluationError
from omnicompose.evaluation.statistics import (
    bootstrap,
    clustered_stderr,
    coalitions,
    compare_paired,
    detectable_difference,
    estimate,
    holm,
    mcnemar_exact,
    rescue,
    shapley_values,
    sign_flip_test,
    synergy,
    wilson_interval,
)


def names(n: int) -> list[str]:
    return [f"q{i:05d}" for i in range(n)]


def test_singleton_clusters_give_the_plain_standard_error() -> None:
    scores = np.random.default_rng(0).integers(0, 2, 200).astype(float)
    plain = scores.std(ddof=1) / np.sqrt(len(scores))
    assert clustered_stderr(scores, names(200)) == pytest.approx(plain, rel=1e-12)


def test_duplicating_every_question_in_its_cluster_gives_root_two_times_the_naive_error() -> None:
    scores = np.random.default_rng(1).integers(0, 2, 500).astype(float)
    doubled = np.repeat(scores, 2)
    clustered = clustered_stderr(doubled, [n for n in names(500) for _ in range(2)])
    naive = clustered_stderr(doubled, names(1000))
    assert clustered is not None
    assert naive is not None
    finite = np.sqrt(500 / 499) / np.sqrt(1000 / 999)
    assert clustered == pytest.approx(np.sqrt(2) * naive * finite, rel=1e-12)


def test_fewer_than_two_clusters_is_unknown_not_zero() -> None:
    result = estimate([1.0, 0.0], ["same", "same"], share=True)
    assert (result.value, result.stderr, result.low, result.method) == (0.5, None, None, "none")
    assert estimate([], [], share=True).value is None


def test_t_interval_covers_ninety_five_percent() -> None:
    generator = np.random.default_rng(2)
    hits = 0
    for _ in range(400):
        result = estimate(generator.random(60) < 0.5, names(60), share=True)
        assert result.low is not None
        assert result.high is not None
        hits += result.low <= 0.5 <= result.high
    assert 0.92 <= hits / 400 <= 0.98


def test_near_the_ends_wilson_takes_over() -> None:
    result = estimate([1.0] * 40, names(40), share=True)
    expected = binomtest(40, 40).proportion_ci(method="wilson")
    assert result.method == "wilson"
    assert (result.low, result.high) == pytest.approx((expected.low, expected.high))
    assert wilson_interval(0.1, 50) == pytest.approx(
        tuple(binomtest(5, 50).proportion_ci(method="wilson"))
    )
    assert estimate([0.5] * 40, names(40)).method == "t"


def test_wilson_counts_clusters_not_questions() -> None:
    one_each = estimate([1.0] * 40, names(40), share=True)
    two_each = estimate([1.0] * 40, [n for n in names(20) for _ in range(2)], share=True)
    assert one_each.low is not None
    assert two_each.low is not None
    assert two_each.low < one_each.low


def test_mcnemar_exact() -> None:
    assert mcnemar_exact(5, 0) == 0.0625
    assert mcnemar_exact(0, 0) == 1.0
    assert mcnemar_exact(7, 7) == 1.0
    assert mcnemar_exact(3, 12) == pytest.approx(binomtest(3, 15, 0.5).pvalue)


def test_sign_flip_agrees_with_mcnemar_on_singletons() -> None:
    differences = np.array([1.0] * 12 + [-1.0] * 3 + [0.0] * 50)
    assert sign_flip_test(differences, names(65), seed=0) == pytest.approx(
        mcnemar_exact(12, 3), abs=0.01
    )
    assert sign_flip_test(np.zeros(4), names(4), seed=0) == 1.0


def test_clusters_choose_the_test_and_widen_the_interval() -> None:
    generator = np.random.default_rng(3)
    a, b = generator.integers(0, 2, 100), generator.integers(0, 2, 100)
    alone = compare_paired(a, b, names(100))
    doubled = compare_paired(
        np.repeat(a, 2), np.repeat(b, 2), [n for n in names(100) for _ in "12"]
    )
    assert (alone.test, doubled.test) == ("mcnemar", "sign-flip")
    assert alone.both + alone.only_a + alone.only_b + alone.neither == 100
    assert doubled.p_value == pytest.approx(alone.p_value, abs=0.03)
    assert doubled.detectable == pytest.approx(alone.detectable, rel=0.02)


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize(
    ("n", "discordant", "points"),
    [(200, 0.1, 6.2), (200, 0.3, 10.8), (500, 0.2, 5.6), (1000, 0.1, 2.8), (3172, 0.3, 2.8)],
)
def test_detectable_difference_matches_the_table_of_the_specification(
    n: int, discordant: float, points: float
) -> None:
    assert 100 * detectable_difference(n, discordant) == pytest.approx(points, abs=0.1)


def toy_world(n: int = 4000) -> dict[frozenset[str], np.ndarray]:
    """Image alone decides 40 % of the questions, audio 30 %, both together more; video nothing."""
    generator = np.random.default_rng(4)
    kind = generator.random(n)
    guess = (generator.random(n) < 0.25).astype(float)
    scores = {}
    for subset in coalitions(["image", "audio", "video"]):
        known = np.zeros(n, dtype=bool)
        known |= ("image" in subset) & (kind < 0.4)
        known |= ("audio" in subset) & (kind >= 0.4) & (kind < 0.7)
        known |= ({"image", "audio"} <= subset) & (kind >= 0.7) & (kind < 0.9)
        scores[subset] = np.where(known, 1.0, guess)
    return scores


def test_shapley_values_of_a_world_with_known_truth() -> None:
    scores = toy_world()
    modalities = ["image", "audio", "video"]
    phi = shapley_values(scores, modalities)
    gap = scores[frozenset(modalities)] - scores[frozenset()]
    assert np.abs(sum(phi.values()) - gap).max() < 1e-12
    assert np.abs(phi["video"]).max() == 0
    assert phi["image"].mean() == pytest.approx(0.75 * (0.4 + 0.1), abs=0.02)
    assert phi["audio"].mean() == pytest.approx(0.75 * (0.3 + 0.1), abs=0.02)
    interval = bootstrap(phi["image"], names(4000), seed=0)
    assert interval.low is not None
    assert interval.high is not None
    assert interval.low < 0.375 < interval.high
    assert synergy(scores, ("image", "audio")).mean() == pytest.approx(0.75 * 0.2, abs=0.02)


def test_identical_modalities_get_equal_shapley_values() -> None:
    seen = np.random.default_rng(5).integers(0, 2, 50).astype(float)
    scores = {subset: seen * bool(subset) for subset in coalitions(["left", "right"])}
    phi = shapley_values(scores, ["left", "right"])
    assert np.array_equal(phi["left"], phi["right"])


def test_rescue_and_loss() -> None:
    scores = {
        frozenset({"image"}): [1, 0, 0, 1],
        frozenset({"audio"}): [0, 0, 1, 1],
        frozenset({"image", "audio"}): [1, 1, 0, 1],
    }
    result = rescue(scores, ["image", "audio"])
    assert result.rescued.tolist() == [0, 1, 0, 0]
    assert result.lost.tolist() == [0, 0, 1, 0]
    assert result.oracle.tolist() == [1, 0, 1, 1]


def test_bootstrap_is_seeded_and_close_to_the_t_interval() -> None:
    scores = np.random.default_rng(6).random(300)
    first, again = bootstrap(scores, names(300), seed=1), bootstrap(scores, names(300), seed=1)
    assert first == again
    plain = estimate(scores, names(300))
    assert (first.low, first.high) == pytest.approx((plain.low, plain.high), abs=0.01)


def test_missing_subsets_are_named() -> None:
    with pytest.raises(EvaluationError, match=r"subsets none, audio .*--modalities subsets"):
        shapley_values(
            {frozenset({"image"}): [1], frozenset({"image", "audio"}): [1]}, ["image", "audio"]
        )


def test_every_question_has_one_cluster() -> None:
    with pytest.raises(EvaluationError, match="2 scores but 1 clusters"):
        clustered_stderr([0, 1], ["a"])


def test_where_nothing_differs_nothing_can_be_said_of_what_could_have_been_seen() -> None:
    same = compare_paired([1.0, 0.0, 1.0], [1.0, 0.0, 1.0], names(3))
    assert (same.p_value, same.detectable) == (1.0, None)
    assert compare_paired([1.0, 0.0, 1.0], [0.0, 0.0, 1.0], names(3)).detectable is not None
