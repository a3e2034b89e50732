"""From rows to a ranking: known differences are found, and none are found where there are none."""

import numpy as np
import pytest

from omnicompose.benchmark.plot import pareto_svg
from omnicompose.benchmark.report import findings, markdown, results
from omnicompose.benchmark.rows import METHOD, NOT_RUN, REFERENCE, Row
from omnicompose.benchmark.summary import Exam, Standing, Summary, front, summarise

N = 400
EXAM = Exam(
    tasks=("a", "b"),
    skills=("s",),
    clusters={
        "a": [str(i // 2) for i in range(N)],
        "b": [str(i) for i in range(N // 2)],
        "s": [str(i) for i in range(N)],
    },
)


def row(label: str, share: float, kind: str = METHOD, seed: int = 0, skill: float = 0.9) -> Row:
    rng = np.random.default_rng(seed)
    shares = {"a": (N, share), "b": (N // 2, share), "s": (N, skill)}
    scores = {task: tuple(map(float, rng.random(n) < p)) for task, (n, p) in shares.items()}
    return Row(label=label, kind=kind, key="k", scores=scores, plain=scores, cpu_seconds=share)


@pytest.fixture(scope="module")
def summary() -> Summary:
    rows = [
        row("base", 0.2, REFERENCE, seed=1, skill=0.95),
        row("joint training", 0.9, REFERENCE, seed=2),
        row("weight average", 0.5, REFERENCE, seed=3),
        row("best", 0.8, seed=4),
        row("like best", 0.8, seed=5),
        row("linear", 0.5, seed=3),
        row("worst", 0.25, seed=6, skill=0.3),
        Row(label="slerp", kind=NOT_RUN, key="k", reason="takes 2 models, found 5"),
    ]
    return summarise("toy", EXAM, rows)


def standing(summary: Summary, label: str) -> Standing:
    return next(one for one in summary.standings if one.row.label == label)


def test_tasks_count_alike_whatever_their_size(summary: Summary) -> None:
    one = standing(summary, "best")
    means = [np.mean(one.row.scores[task]) for task in EXAM.tasks]
    assert one.score.value == pytest.approx(np.mean(means))


def test_rows_that_do_not_differ_share_their_rank(summary: Summary) -> None:
    assert standing(summary, "best").rank == standing(summary, "like best").rank == (1, 2)
    assert standing(summary, "linear").rank == (3, 3)
    assert standing(summary, "worst").rank == (4, 4)
    assert set(summary.ties["best"]) >= {"like best"}
    assert standing(summary, "base").rank is None


def test_the_average_against_itself_is_no_difference(summary: Summary) -> None:
    over = standing(summary, "linear").over_average
    assert (over.value, over.low, over.high) == (0.0, 0.0, 0.0)


def test_differences_are_paired_and_signed(summary: Summary) -> None:
    best = standing(summary, "best")
    assert best.over_average.low is not None and best.over_average.low > 0.2
    assert best.over_joint is not None and (best.over_joint.high or 0) < 0
    forgotten = standing(summary, "worst").forgotten
    assert forgotten is not None and (forgotten.low or 0) > 0.5


def fixed(label: str, kind: str = METHOD, **shares: float) -> Row:
    """Right in the first so many questions of each task."""
    sizes = {"a": N, "b": N // 2, "s": N}
    scores = {
        task: tuple(float(i < shares.get(task, 0.5) * n) for i in range(n))
        for task, n in sizes.items()
    }
    return Row(label=label, kind=kind, key="k", scores=scores, plain=scores)


def test_how_far_tasks_lie_apart_is_no_uncertainty() -> None:
    """Better in one task by much and worse in the other by less: the tasks were not drawn."""
    rows = [
        fixed("weight average", REFERENCE, a=0.2, b=0.8),
        fixed("linear", a=0.2, b=0.8),
        fixed("other", a=0.9, b=0.2),
    ]
    found = summarise("toy", EXAM, rows)
    over = standing(found, "other").over_average
    assert over.value == pytest.approx(0.05)
    # Each task's share of changed questions alone: sqrt(0.7 * 0.3 / 200 + 0.6 * 0.4 / 200) / 2.
    assert over.stderr == pytest.approx(0.0237, abs=2e-4)


def test_rows_that_differ_in_every_question_differ() -> None:
    rows = [
        fixed("weight average", REFERENCE, a=0.0, b=0.0),
        fixed("linear", a=0.0, b=0.0),
        fixed("perfect", a=1.0, b=1.0),
    ]
    found = summarise("toy", EXAM, rows)
    assert standing(found, "perfect").rank == (1, 1)
    assert standing(found, "perfect").over_average.stderr == 0
    assert found.ties["perfect"] == ("perfect",)
    assert found.above_average == ("perfect",)


def test_what_is_said_of_many_rows_is_corrected_for_their_number() -> None:
    """A hundred rows that are no better than the average: some intervals lie above 0 by chance."""
    many = [row(f"n{i}", 0.5, seed=100 + i) for i in range(100)]
    # An average that had a little bad luck, an upper bound that had none.
    rows = [row("weight average", 0.5, REFERENCE, seed=6), row("joint training", 0.5, REFERENCE)]
    found = summarise("toy", EXAM, [*rows, *many])
    above = [one for one in found.standings if (one.over_average.low or 0) > 0]
    assert above and found.above_average == ()
    assert found.below_joint == ()
    said = "\n".join(findings(found))
    assert "Shown to be above the plain weight average (all rows, Holm): no row." in said


def test_the_front_leaves_out_what_is_beaten_in_both(summary: Summary) -> None:
    assert not standing(summary, "worst").on_front
    assert any(one.on_front for one in summary.standings)
    assert front([(0, 1), (1, 0), (0.5, 0.5), (0, 0)]) == [0, 1, 2]


def test_the_page_says_what_does_not_differ_and_what_was_not_run(summary: Summary) -> None:
    said = "\n".join(findings(summary))
    assert "Not shown to differ from it (all pairs, Holm): " in said
    assert "- Not run: slerp: takes 2 models, found 5" in said
    assert "| 1-2 | " in markdown(summary)


def test_one_line_per_row_and_the_same_picture_every_time(summary: Summary) -> None:
    lines = results(summary)
    assert [line["row"] for line in lines][-1] == "slerp"
    assert len(lines) == 8
    assert pareto_svg(summary) == pareto_svg(summary)
    assert "</svg>" in pareto_svg(summary)
