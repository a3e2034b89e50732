"""Two evaluations of the same questions: paired differences, and what is kept of an expert."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from omnicompose.errors import EvaluationError
from omnicompose.evaluation.line import Line, ScoreKind
from omnicompose.evaluation.rows import answered
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
Asked = Mapping[tuple[str, int], Line]
"""Lines by question and rotation."""


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
    return compare_all([first, second])[0]


def compare_all(folders: Sequence[Path]) -> list[list[ComparedRow]]:
    """Compare the first results folder with each of the others.

    Args:
        folders: two or more that `evaluate` wrote.

    Returns:
        The rows of the first against the second, against the third and so on; p-values are
        Holm-corrected over all of them.

    Raises:
        EvaluationError: fewer than two folders; otherwise see `compare`.
    """
    if len(folders) < 2:
        raise EvaluationError("compare: found one results folder, expected two or more.")
    run = read_run(folders[0])
    ours = _cells(folders[0])
    tables = [
        _rows((folders[0], other), ours, _cells(other), run.seed if run else 0)
        for other in folders[1:]
    ]
    adjusted = iter(holm([row.comparison.p_value or 0.0 for rows in tables for row in rows]))
    return [
        [replace(row, comparison=replace(row.comparison, p_holm=next(adjusted))) for row in rows]
        for rows in tables
    ]


def _rows(
    names: tuple[Path, Path], ours: Mapping[Cell, Asked], theirs: Mapping[Cell, Asked], seed: int
) -> list[ComparedRow]:
    shared = sorted(ours.keys() & theirs.keys())
    if not shared:
        raise EvaluationError(
            f"{names[0]} and {names[1]} share no task asked with the same modalities and scores; "
            "evaluate both with the same --tasks, --modalities and --score."
        )
    return [_row(cell, ours[cell], theirs[cell], seed) for cell in shared]


def _cells(folder: Path) -> Mapping[Cell, Asked]:
    cells: dict[Cell, dict[tuple[str, int], Line]] = {}
    for lines in read_samples(folder, read_run(folder)):
        for line in lines:
            cell = (line.task, line.group, line.subset, line.score)
            cells.setdefault(cell, {})[line.id, line.rotation] = line
    return cells


def _row(cell: Cell, first: Asked, second: Asked, seed: int) -> ComparedRow:
    _check_same(cell, first, second)
    a, b = answered(first.values()), answered(second.values())
    ours, theirs = a.by_id(), b.by_id()
    shared = [(i, c) for i, c in zip(a.ids, a.clusters, strict=True) if i in theirs]
    values_a, values_b = [ours[i] for i, _ in shared], [theirs[i] for i, _ in shared]
    task, group, subset, score = cell
    return ComparedRow(
        task=task,
        group=group,
        subset=subset,
        score=score,
        value_a=_mean(values_a),
        value_b=_mean(values_b),
        comparison=compare_paired(values_a, values_b, [c for _, c in shared], seed=seed),
    )


def _check_same(cell: Cell, first: Asked, second: Asked) -> None:
    where = f"{cell[0]}, {cell[1]} asked with {cell[2]}, {cell[3]}"
    if alone := sorted(first.keys() ^ second.keys()):
        raise EvaluationError(
            f"{where}: {len(alone)} questions were put to one model only, the first is "
            f"{alone[0][0]}; expected the same questions. Use the same --limit, --seed and "
            "--rotations."
        )
    for key, line in first.items():
        if _shown(line) != _shown(second[key]):
            raise EvaluationError(
                f"{where}: question {line.id} has different prompts or media; expected the same "
                "text, chat template, options and files. Answers to different questions cannot be "
                "compared."
            )


def _shown(line: Line) -> tuple[object, ...]:
    return line.prompt_sha256, line.choices, tuple(medium.sha256 for medium in line.media)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")
