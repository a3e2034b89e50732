"""Evaluations in a model card: rows of results.json with their intervals."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from omnicompose.errors import ExportError

RESULTS_FILE = "results.json"
NOT_MEASURED = (
    "Not measured yet. `omnicompose evaluate` measures; `omnicompose export --results` puts its "
    "tables here."
)
HEAD = ("| task | shown | score | n | accuracy, % | 95 % interval |", "|---|---|---|---|---|---|")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationRow:
    """One line of the table.

    Attributes:
        task: the benchmark.
        shown: modalities that were given.
        score: how replies were read.
        n: questions.
        value: accuracy, in percent.
        low: lower end of its 95 % interval.
        high: upper end.
    """

    task: str
    shown: str
    score: str
    n: int
    value: float | None
    low: float | None
    high: float | None


def read_rows(folders: Sequence[Path]) -> tuple[EvaluationRow, ...]:
    """Every row of the results in the given folders.

    Raises:
        ExportError: a folder holds no results of `omnicompose evaluate`.
    """
    return tuple(row for folder in folders for row in _rows(folder / RESULTS_FILE))


def _rows(path: Path) -> Iterator[EvaluationRow]:
    try:
        tasks: Mapping[str, Mapping[str, list[dict[str, object]]]]
        tasks = json.loads(path.read_text(encoding="utf-8"))["tasks"]
        for task, result in tasks.items():
            for row in result["rows"]:
                yield _row(task, row)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ExportError(
            f"{path}: found no results ({_reason(error)}), expected those of `omnicompose "
            "evaluate`. Name the folder given there as --out."
        ) from error


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return (error.strerror or "it cannot be read").lower()
    return f"{type(error).__name__}: {error}"


def _row(task: str, row: Mapping[str, object]) -> EvaluationRow:
    accuracy = row["accuracy"]
    if not isinstance(accuracy, dict):
        raise TypeError(f"accuracy {accuracy!r}")
    value, low, high = (_percent(accuracy[name]) for name in ("value", "low", "high"))
    return EvaluationRow(
        task=task,
        shown=str(row["subset"]),
        score=str(row["score"]),
        n=int(str(row["n"])),
        value=value,
        low=low,
        high=high,
    )


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def results_section(rows: Sequence[EvaluationRow]) -> str:
    """The table as Markdown."""
    if not rows:
        return NOT_MEASURED
    lines = [*HEAD]
    for row in rows:
        numbers = (row.value, row.low, row.high)
        value, low, high = ("" if number is None else f"{number:.1f}" for number in numbers)
        interval = f"[{low}, {high}]" if low else ""
        lines.append(f"| {row.task} | {row.shown} | {row.score} | {row.n} | {value} | {interval} |")
    return "\n".join(lines)
