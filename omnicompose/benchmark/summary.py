"""From rows to a ranking: paired differences with intervals, and which rows do not differ.

A row's score is the mean over the tasks of its accuracy. Differences are taken question by
question, with standard errors clustered by picture; the ranking corrects its p-values for all pairs
of rows (Holm), and a row's rank is an interval: no better than one more than the number of rows
shown to be better, no worse than the number of rows not shown to be worse.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.special import stdtr

from omnicompose.benchmark.rows import METHOD, NOT_RUN, REFERENCE, Row
from omnicompose.evaluation.statistics import Estimate, Floats, estimate, holm

LEVEL = 0.05
AVERAGE, BASE, JOINT = "weight average", "base", "joint training"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One row among the others; shares in [0, 1].

    Attributes:
        row: what was measured.
        score: mean over the tasks, at the chosen scale.
        plain: the same at scale 1.
        skill: mean over the base's skills; None where the suite names none.
        over_average: score minus the plain weight average's.
        over_joint: score minus joint training's; None where there is none.
        forgotten: the base's skill minus the row's; None where there is no base.
        rank: best and worst rank that the data allow; None for references.
        on_front: no other row has both a better score and more of the base's skill.
    """

    row: Row
    score: Estimate
    plain: float
    skill: Estimate | None
    over_average: Estimate
    over_joint: Estimate | None
    forgotten: Estimate | None
    rank: tuple[int, int] | None
    on_front: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Exam:
    """What every row was asked.

    Attributes:
        tasks: that the ranking counts.
        skills: of the base.
        clusters: by task, of each question.
    """

    tasks: tuple[str, ...]
    skills: tuple[str, ...]
    clusters: Mapping[str, Sequence[str]]

    def joined(self, tasks: Sequence[str]) -> list[str]:
        """Clusters of the questions of some tasks; tasks share none."""
        return [f"{task} {cluster}" for task in tasks for cluster in self.clusters[task]]

    def weighted(self, scores: Mapping[str, Sequence[float]], tasks: Sequence[str]) -> Floats:
        """Scores whose plain mean is the mean over the tasks."""
        total = sum(len(self.clusters[task]) for task in tasks)
        parts = [
            np.asarray(scores[task], dtype=np.float64)
            * (total / (len(tasks) * len(self.clusters[task])))
            for task in tasks
        ]
        return np.concatenate(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A finished benchmark.

    Attributes:
        suite: its name.
        exam: what was asked.
        standings: references first, then methods from the best on.
        skipped: rows that cannot be run, with the reason.
        ties: per method, by label, the methods that it is not shown to differ from.
    """

    suite: str
    exam: Exam
    standings: tuple[Standing, ...]
    skipped: tuple[Row, ...]
    ties: Mapping[str, tuple[str, ...]]


def summarise(suite: str, exam: Exam, rows: Sequence[Row]) -> Summary:
    """Compare every row with every other."""
    run = [row for row in rows if row.kind != NOT_RUN]
    by_label = {row.label: row for row in run}
    scores = {row.label: exam.weighted(row.scores, exam.tasks) for row in run}
    methods = [row.label for row in run if row.kind == METHOD]
    differ = _differences(methods, scores, exam.joined(exam.tasks))
    front = _front(run, exam)
    standings = [
        _standing(row, exam, by_label, _rank(row, methods, scores, differ), row.label in front)
        for row in run
    ]
    order = {REFERENCE: 0, METHOD: 1}
    standings.sort(key=lambda one: (order[one.row.kind], -(one.score.value or 0.0)))
    return Summary(
        suite=suite,
        exam=exam,
        standings=tuple(standings),
        skipped=tuple(row for row in rows if row.kind == NOT_RUN),
        ties={
            label: tuple(other for other in methods if frozenset((label, other)) not in differ)
            for label in methods
        },
    )


def _differences(
    labels: Sequence[str], scores: Mapping[str, Floats], clusters: Sequence[str]
) -> set[frozenset[str]]:
    """The pairs of rows that are shown to differ, all pairs considered together."""
    pairs = list(combinations(labels, 2))
    found = [estimate(scores[a] - scores[b], clusters) for a, b in pairs]
    corrected = holm([_p_value(one) for one in found])
    return {frozenset(pair) for pair, p in zip(pairs, corrected, strict=True) if p < LEVEL}


def _p_value(difference: Estimate) -> float:
    """Two-sided, of no difference; 1 where the rows answered alike."""
    if not difference.value or not difference.stderr:
        return 1.0
    return float(2 * stdtr(difference.clusters - 1, -abs(difference.value) / difference.stderr))


def _rank(
    row: Row,
    methods: Sequence[str],
    scores: Mapping[str, Floats],
    differ: set[frozenset[str]],
) -> tuple[int, int] | None:
    if row.kind != METHOD:
        return None
    others = [label for label in methods if frozenset((label, row.label)) in differ]
    better = sum(scores[label].mean() > scores[row.label].mean() for label in others)
    return 1 + better, len(methods) - (len(others) - better)


def _standing(
    row: Row,
    exam: Exam,
    rows: Mapping[str, Row],
    rank: tuple[int, int] | None,
    on_front: bool,
) -> Standing:
    own = exam.weighted(row.scores, exam.tasks)
    clusters = exam.joined(exam.tasks)
    skill = exam.weighted(row.scores, exam.skills) if exam.skills else None

    def over(label: str) -> Estimate | None:
        other = rows.get(label)
        if other is None:
            return None
        return estimate(own - exam.weighted(other.scores, exam.tasks), clusters)

    average = over(AVERAGE)
    assert average is not None, "the weight average is always run"
    return Standing(
        row=row,
        score=estimate(own, clusters),
        plain=float(exam.weighted(row.plain, exam.tasks).mean()),
        skill=None if skill is None else estimate(skill, exam.joined(exam.skills)),
        over_average=average,
        over_joint=over(JOINT),
        forgotten=_forgotten(exam, rows.get(BASE), skill),
        rank=rank,
        on_front=on_front,
    )


def _forgotten(exam: Exam, base: Row | None, skill: Floats | None) -> Estimate | None:
    if base is None or skill is None:
        return None
    difference = exam.weighted(base.scores, exam.skills) - skill
    return estimate(difference, exam.joined(exam.skills))


def _front(rows: Sequence[Row], exam: Exam) -> set[str]:
    """Methods that no other method beats in both score and skill."""
    if not exam.skills:
        return set()
    points = {
        row.label: (
            float(exam.weighted(row.scores, exam.tasks).mean()),
            float(exam.weighted(row.scores, exam.skills).mean()),
        )
        for row in rows
        if row.kind == METHOD
    }
    return {
        label
        for label, (score, skill) in points.items()
        if not any(
            (s >= score and k >= skill and (s, k) != (score, skill)) for s, k in points.values()
        )
    }
