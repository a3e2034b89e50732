"""A comparison as plain rows, and as a table for people."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from omnicompose.commands.tables import rows_table

if TYPE_CHECKING:
    from omnicompose.evaluation import ComparedRow

COLUMNS = ("against", "task", "shown", "score", "n", "points", "p_holm", "could_have_seen")


def compared_rows(
    folders: Sequence[Path], tables: Sequence[Sequence["ComparedRow"]]
) -> list[dict[str, object]]:
    """One plain row per other folder and way of asking; shares and points in percent."""
    return [
        _row(folder, row) for folder, rows in zip(folders[1:], tables, strict=True) for row in rows
    ]


def comparison_table(rows: Sequence[Mapping[str, object]]) -> Table:
    """What fits a screen of each row."""
    return rows_table([dict(row) | {"points": _points(row)} for row in rows], COLUMNS)


def _row(folder: Path, row: "ComparedRow") -> dict[str, object]:
    found = row.comparison
    difference = found.difference
    return {
        "against": str(folder),
        "task": row.task,
        "questions_about": row.group,
        "shown": row.subset,
        "score": row.score,
        "n": difference.n,
        "first": _percent(row.value_a),
        "other": _percent(row.value_b),
        "difference": _percent(difference.value),
        "interval": [_percent(difference.low), _percent(difference.high)],
        "only_first": found.only_a,
        "only_other": found.only_b,
        "p_value": found.p_value,
        "p_holm": None if found.p_holm is None else round(found.p_holm, 4),
        "test": found.test,
        "could_have_seen": _percent(found.detectable),
    }


def _points(row: Mapping[str, object]) -> str:
    """`+3.2 [-1.0, 7.4]`."""
    interval = row["interval"]
    low, high = interval if isinstance(interval, list) else (None, None)
    return f"{row['difference']:+} [{low}, {high}]"


def _percent(value: float | None) -> float | None:
    return None if value is None else round(100 * value, 1)
