"""Two evaluations of the same questions: paired differences, and what is kept of an expert."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from omnicompose.errors import EvaluationError
from omnicompose.evaluation.line import Line, ScoreKind
from omnicompose.evaluation.scoring import read_run, read_samples
from omnicompose.evaluation.statistics import Comparison, compare_paired, holm

MARGIN = 0.02
"""A score counts as kept if it is shown to lie no further below than this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedRow:
    """One cell of both tables.

    Attributes:
        task: the benchmark.
        group: modalities that the questions show.
        subset: modalities given.
        score: kind of score.
        value_a: accuracy of the first.
        value_b: accuracy of the second, on the same questions.
        comparison: first minus second; p-values Holm-corrected over all rows.
    """

    task: str
    group: str
    subset: str
    score: ScoreKind
    value_a: float
    value_b: float
    comparison: Comparison

    def is_kept(self, margin: float = MARGIN) -> bool:
        """Whether the first is shown to be no more than `margin` worse than the second."""
        low = self.comparison.difference.low
        return low is not None and low > -margin


Cell = tuple[str, str, str, ScoreKind]


def compare(first: Path, second: Path) -> list[ComparedRow]:
    """Compare two results folders, question by question, wherever both asked in the same way.

    Args:
        first: a folder that `evaluate` wrote.
        second: another one.

    Returns:
        One row per task, set of modalities, subset and score that both have, in that order.

    Raises:
        EvaluationError: the folders share nothing, or ask different questions under one name.
    """
    ours, theirs = _cells(first), _cells(second)
    shared = sorted(ours.keys() & theirs.keys())
    if not shared:
        raise EvaluationError(
            f"{first} and {second} share no task asked with the same modalities and scores; "
            "evaluate both with the same --tasks, --modalities and --score."
        )
    run = read_run(first)
    seed = run.seed if run else 0
    rows = [_row(cell, ours[cell], theirs[cell], seed) for cell in shared]
    adjusted = holm([row.comparison.p_value or 0.0 for row in rows])
    return [
        replace(row, comparison=replace(row.comparison, p_holm=p_holm))
        for row, p_holm in zip(rows, adjusted, strict=True)
    ]


def _cells(folder: Path) -> dict[Cell, dict[str, Line]]:
    cells: dict[Cell, dict[str, Line]] = {}
    for lines in read_samples(folder, read_run(folder)):
        for line in lines:
            cell = (line.task, line.group, line.subset, line.score)
            cells.setdefault(cell, {})[line.id] = line
    return cells


def _row(cell: Cell, first: dict[str, Line], second: dict[str, Line], seed: int) -> ComparedRow:
    _check_same(cell, first, second)
    ids = [i for i in sorted(first) if None not in (first[i].correct, second[i].correct)]
    a, b = ([float(lines[i].correct or 0) for i in ids] for lines in (first, second))
    task, group, subset, score = cell
    return ComparedRow(
        task=task,
        group=group,
        subset=subset,
        score=score,
        value_a=_mean(a),
        value_b=_mean(b),
        comparison=compare_paired(a, b, [first[i].cluster for i in ids], seed=seed),
    )


def _check_same(cell: Cell, first: dict[str, Line], second: dict[str, Line]) -> None:
    where = f"{cell[0]}, {cell[1]} asked with {cell[2]}, {cell[3]}"
    if alone := sorted(first.keys() ^ second.keys()):
        raise EvaluationError(
            f"{where}: {len(alone)} questions were put to one model only, the first is "
            f"{alone[0]}; expected the same questions. Use the same --limit and --seed."
        )
    for i, line in first.items():
        if line.prompt_sha256 != second[i].prompt_sha256 or line.choices != second[i].choices:
            raise EvaluationError(
                f"{where}: question {i} has different prompts; expected the same text, chat "
                "template and options. Answers to different prompts cannot be compared."
            )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")
