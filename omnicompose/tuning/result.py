"""What a search found, beside what 1/N gives: as JSON, as a table, and as a recipe."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

RESULT_NAME = "tuning.json"
RECIPE_NAME = "tuned.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One choice of coefficients.

    Attributes:
        name: `1/N` or `tuned`.
        weights: by expert.
        validation: the objective on the questions that the search saw; less is better.
        accuracy: on the test questions, where answers are known.
        low: of the 95 % interval of tuned minus 1/N; None for the row of 1/N.
        high: likewise.
    """

    name: str
    weights: Mapping[str, object]
    validation: float
    accuracy: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneResult:
    """A finished search.

    Attributes:
        objective: what was made small.
        split: how the questions were divided.
        num_validation: questions that the search saw.
        num_test: questions of the final comparison alone.
        rows: 1/N, then tuned.
        trace: every candidate with its objective, in order.
        seconds_each: median time to merge and ask one candidate.
    """

    objective: str
    split: str
    num_validation: int
    num_test: int
    rows: tuple[Row, Row]
    trace: tuple[tuple[Mapping[str, object], float], ...]
    seconds_each: float

    def to_json(self) -> dict[str, object]:
        """Everything."""
        return asdict(self)

    def write(self, folder: Path) -> None:
        """Write `tuning.json`."""
        text = json.dumps(self.to_json(), indent=1) + "\n"
        (folder / RESULT_NAME).write_text(text, encoding="utf-8")

    def render(self) -> RenderableType:
        """1/N beside the tuned coefficients."""
        table = Table()
        for column in ("coefficients", *self.rows[0].weights, self.objective, "test accuracy"):
            table.add_column(column)
        for row in self.rows:
            weights = (_short(weight) for weight in row.weights.values())
            table.add_row(row.name, *weights, f"{row.validation:.4f}", _accuracy(row))
        facts = (
            f"{self.split}: {self.num_validation} questions to search on, {self.num_test} others "
            f"to test on. {len(self.trace)} candidates, {self.seconds_each:.1f} s each."
        )
        return Group(table, Text(facts))


def _short(weight: object) -> str:
    if isinstance(weight, tuple | list):
        return " ".join(f"{one:.3f}" for one in weight)
    return f"{weight:.3f}"


def _accuracy(row: Row) -> str:
    if row.accuracy is None:
        return "no answers"
    text = f"{100 * row.accuracy:.1f} %"
    if row.low is None or row.high is None:
        return text
    return f"{text} (tuned - 1/N: {100 * row.low:+.1f} to {100 * row.high:+.1f})"
