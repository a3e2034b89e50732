"""One row of the table: lines asked and scored in one way, as numbers with intervals."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from omnicompose.evaluation.letters import letter_mass, probabilities
from omnicompose.evaluation.line import Line
from omnicompose.evaluation.results import Binary, CategoryRow, Row, RowKind
from omnicompose.evaluation.sample import LETTERS
from omnicompose.evaluation.statistics import estimate

Cell = tuple[str, str, RowKind]
"""Modalities that the questions show, what is given, kind of score."""


class Answered(NamedTuple):
    """Questions with their scores, sorted by id, one entry each; several rotations are averaged.

    Attributes:
        ids: of the questions.
        clusters: of each.
        scores: of each, in [0, 1].
    """

    ids: tuple[str, ...]
    clusters: tuple[str, ...]
    scores: tuple[float, ...]

    @property
    def are_shares(self) -> bool:
        """Whether every score is right or wrong, nothing between."""
        return all(score in (0.0, 1.0) for score in self.scores)

    def by_id(self) -> dict[str, float]:
        """Score of each question."""
        return dict(zip(self.ids, self.scores, strict=True))


def answered(lines: Iterable[Line]) -> Answered:
    """The questions that have an answer, errors left out."""
    found: dict[str, tuple[str, list[float]]] = {}
    for line in lines:
        if line.correct is not None:
            found.setdefault(line.id, (line.cluster, []))[1].append(float(line.correct))
    ids = tuple(sorted(found))
    return Answered(
        ids=ids,
        clusters=tuple(found[i][0] for i in ids),
        scores=tuple(math.fsum(found[i][1]) / len(found[i][1]) for i in ids),
    )


def make_row(cell: Cell, lines: Sequence[Line]) -> Row:
    """One row of the table."""
    group, subset, kind = cell
    given = [line for line in lines if line.correct is not None]
    letters = [line for line in given if line.log_likelihoods is not None]
    asked = answered(given)
    graded = any(line.reading == "caption" for line in given)
    return Row(
        group=group,
        subset=subset,
        score=kind,
        n=len(asked.ids),
        errors=len(lines) - len(given),
        unparsed=sum(line.answer is None for line in given),
        accuracy=estimate(asked.scores, asked.clusters, share=asked.are_shares),
        chance=None if graded else _mean([1 / len(line.choices) for line in given]),
        majority=None if graded else _majority([line.target for line in given]),
        probability=estimate(*_probabilities(letters)) if letters else None,
        letter_mass=_mean([letter_mass(line.log_likelihoods or ()) for line in letters]),
        consistency=_consistency(given),
        binary=_binary(given),
    )


def category_rows(cells: Mapping[Cell, Sequence[Line]]) -> tuple[CategoryRow, ...]:
    """Accuracy by the benchmark's own kinds of question, everything shown."""
    rows = []
    for (group, subset, kind), lines in sorted(cells.items()):
        if group != subset:
            continue
        names = {line.category for line in lines} - {""}
        for name in sorted(names):
            asked = answered(line for line in lines if line.category == name)
            accuracy = estimate(asked.scores, asked.clusters, share=asked.are_shares)
            rows.append(CategoryRow(category=name, group=group, score=kind, accuracy=accuracy))
    return tuple(rows)


def _probabilities(letters: Sequence[Line]) -> tuple[list[float], list[str]]:
    values = [
        probabilities(line.log_likelihoods or ())[LETTERS.index(line.target)] for line in letters
    ]
    return values, [line.cluster for line in letters]


def _consistency(lines: Sequence[Line]) -> float | None:
    """Share of questions right in every order of their options; None if asked in one only."""
    right: dict[str, list[bool]] = {}
    for line in lines:
        right.setdefault(line.id, []).append(line.correct == 1)
    if not any(line.rotation for line in lines):
        return None
    return _mean([float(all(times)) for times in right.values()])


def _binary(lines: Sequence[Line]) -> Binary | None:
    """Precision, recall and F1 of *yes*, for yes/no questions."""
    if not lines or any(line.reading != "yesno" for line in lines):
        return None
    yes = [line.choices.index("Yes") for line in lines]
    said = [line.answer == LETTERS[place] for line, place in zip(lines, yes, strict=True)]
    true = [line.target == LETTERS[place] for line, place in zip(lines, yes, strict=True)]
    hits = sum(s and t for s, t in zip(said, true, strict=True))
    precision = hits / sum(said) if any(said) else None
    recall = hits / sum(true) if any(true) else None
    return Binary(
        precision=precision,
        recall=recall,
        f1=2 * hits / (sum(said) + sum(true)) if any(said) or any(true) else None,
        yes_rate=sum(said) / len(said),
    )


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _majority(targets: Sequence[str]) -> float | None:
    return max(Counter(targets).values()) / len(targets) if targets else None
