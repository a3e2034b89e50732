"""From rows to a ranking: paired differences with intervals, and which rows do not differ.

A row's score is the mean over the tasks of its accuracy. Differences are taken question by
question within each task, with standard errors clustered by picture; the ranking corrects its
p-values for all pairs of methods (Holm), and a row's rank is an interval: no better than one more
than the number of rows shown to be better, no worse than the number of rows not shown to be worse.
What is said of all methods against the plain average, and against joint training, is corrected for
their number too; the intervals of the table are of one row each. The runs of a random method are
averaged: intervals tell what other questions would change, not what other seeds would.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from statistics import fmean

from omnicompose.benchmark.rows import METHOD, NOT_RUN, REFERENCE, Row
from omnicompose.evaluation.statistics import (
    Estimate,
    Groups,
    Stratum,
    Tested,
    groups_of,
    holm,
    mean_of_means,
    minus,
    stratum,
)

LEVEL = 0.05
AVERAGE, BASE, JOINT = "weight average", "base", "joint training"
Answers = Sequence[Stratum]
"""What a row answered to some tasks."""


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


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Some tasks that count alike.

    Attributes:
        clusters: by task, of each question; of one name in several tasks is one cluster.
    """

    clusters: Mapping[str, Sequence[str]]

    @cached_property
    def groups(self) -> Groups:
        """Which clusters of the tasks are the same."""
        return groups_of(list(self.clusters.values()))

    def answers(self, scores: Mapping[str, Sequence[float]]) -> Answers:
        """A row's scores by task."""
        return [stratum(scores[task], own) for task, own in self.clusters.items()]

    def mean(self, answers: Answers) -> Estimate:
        """Over the tasks."""
        return mean_of_means(answers, self.groups).estimate

    def difference(self, first: Answers, second: Answers) -> Tested:
        """First minus second, question by question."""
        return mean_of_means(minus(first, second), self.groups)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exam:
    """What every row was asked.

    Attributes:
        tasks: that the ranking counts.
        skills: of the base.
        clusters: by task, of each question; tasks of one family may share clusters.
    """

    tasks: tuple[str, ...]
    skills: tuple[str, ...]
    clusters: Mapping[str, Sequence[str]]

    @property
    def num_questions(self) -> int:
        """That the ranking counts."""
        return sum(len(self.clusters[task]) for task in self.tasks)

    def panel(self, tasks: Iterable[str]) -> Panel:
        """Some of the tasks."""
        return Panel(
            clusters={
                task: [f"{task.partition('/')[0]} {one}" for one in self.clusters[task]]
                for task in tasks
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A finished benchmark.

    Attributes:
        suite: its name.
        exam: what was asked.
        standings: references first, then methods from the best on.
        skipped: rows that cannot be run, with the reason.
        ties: per method, by label, the methods that it is not shown to differ from.
        above_average: methods shown to be above the plain weight average.
        below_joint: methods shown to be below joint training.
    """

    suite: str
    exam: Exam
    standings: tuple[Standing, ...]
    skipped: tuple[Row, ...]
    ties: Mapping[str, tuple[str, ...]]
    above_average: tuple[str, ...]
    below_joint: tuple[str, ...]


def summarise(suite: str, exam: Exam, rows: Sequence[Row]) -> Summary:
    """Compare every row with every other."""
    run = [row for row in rows if row.kind != NOT_RUN]
    panel = exam.panel(exam.tasks)
    answers = {row.label: panel.answers(row.scores) for row in run}
    methods = [row.label for row in run if row.kind == METHOD]
    differ = _differences(methods, answers, panel)
    judge = _Judge(exam=exam, panel=panel, rows=run, answers=answers)
    standings = [judge.standing(row, _rank(row, methods, answers, differ)) for row in run]
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
        above_average=_shown(methods, answers, panel, AVERAGE, sign=1),
        below_joint=_shown(methods, answers, panel, JOINT, sign=-1),
    )


def _differences(
    labels: Sequence[str], answers: Mapping[str, Answers], panel: Panel
) -> set[frozenset[str]]:
    """The pairs of rows that are shown to differ, all pairs considered together."""
    pairs = list(combinations(labels, 2))
    found = [panel.difference(answers[a], answers[b]).p_value for a, b in pairs]
    return {frozenset(pair) for pair, p in zip(pairs, holm(found), strict=True) if p < LEVEL}


def _shown(
    methods: Sequence[str],
    answers: Mapping[str, Answers],
    panel: Panel,
    reference: str,
    *,
    sign: int,
) -> tuple[str, ...]:
    """The methods shown to lie above (+1) or below (-1) a reference, all considered together."""
    if reference not in answers:
        return ()
    found = [panel.difference(answers[label], answers[reference]) for label in methods]
    corrected = holm([one.p_value for one in found])
    return tuple(
        label
        for label, one, p in zip(methods, found, corrected, strict=True)
        if p < LEVEL and sign * (one.estimate.value or 0.0) > 0
    )


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Places of the points that no other point reaches in both coordinates."""
    return [
        i
        for i, (x, y) in enumerate(points)
        if not any(a >= x and b >= y and (a, b) != (x, y) for a, b in points)
    ]


def _mean(answers: Answers) -> float:
    return fmean(one.mean for one in answers)


def _rank(
    row: Row,
    methods: Sequence[str],
    answers: Mapping[str, Answers],
    differ: set[frozenset[str]],
) -> tuple[int, int] | None:
    if row.kind != METHOD:
        return None
    own = _mean(answers[row.label])
    others = [label for label in methods if frozenset((label, row.label)) in differ]
    better = sum(_mean(answers[label]) > own for label in others)
    return 1 + better, len(methods) - (len(others) - better)


@dataclass(frozen=True, kw_only=True)
class _Judge:
    """Holds one row against the references.

    Attributes:
        exam: what was asked.
        panel: the tasks of the ranking.
        rows: all that were run.
        answers: to the tasks of the ranking, by label.
    """

    exam: Exam
    panel: Panel
    rows: Sequence[Row]
    answers: Mapping[str, Answers]

    @cached_property
    def skills(self) -> Mapping[str, Answers]:
        """Answers to the base's skills, by label."""
        return {row.label: self.skill_panel.answers(row.scores) for row in self.rows}

    @cached_property
    def skill_panel(self) -> Panel:
        """The tasks of the base's skills."""
        return self.exam.panel(self.exam.skills)

    def standing(self, row: Row, rank: tuple[int, int] | None) -> Standing:
        """One row."""
        average = self._over(row, AVERAGE)
        assert average is not None, "the weight average is always run"
        asked = bool(self.exam.skills)
        return Standing(
            row=row,
            score=self.panel.mean(self.answers[row.label]),
            plain=_mean(self.panel.answers(row.plain)),
            skill=self.skill_panel.mean(self.skills[row.label]) if asked else None,
            over_average=average,
            over_joint=self._over(row, JOINT),
            forgotten=self._forgotten(row) if asked else None,
            rank=rank,
            on_front=row.label in self.front,
        )

    def _over(self, row: Row, reference: str) -> Estimate | None:
        if reference not in self.answers:
            return None
        own, other = self.answers[row.label], self.answers[reference]
        return self.panel.difference(own, other).estimate

    def _forgotten(self, row: Row) -> Estimate | None:
        if BASE not in self.skills:
            return None
        return self.skill_panel.difference(self.skills[BASE], self.skills[row.label]).estimate

    @cached_property
    def front(self) -> frozenset[str]:
        """Methods that no other method beats in both score and skill."""
        if not self.exam.skills:
            return frozenset()
        methods = [row.label for row in self.rows if row.kind == METHOD]
        points = [(_mean(self.answers[label]), _mean(self.skills[label])) for label in methods]
        return frozenset(methods[place] for place in front(points))
