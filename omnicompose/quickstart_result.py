"""What the quickstart found, as tables: together against each part, kept, and lost."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table

from omnicompose.ask import Answer

if TYPE_CHECKING:
    from omnicompose.evaluation import ComparedRow
    from omnicompose.evaluation.results import Row, TaskResult
    from omnicompose.evaluation.statistics import Estimate

ALL = "image+audio+video"
TOGETHER = "What do a picture, a sound and a clip have in common? (zoo/mcub, %)"
RETENTION = "What is left of each expert on its own task (%)"
SHOWN = {
    ALL: "all three",
    "image": "the picture alone",
    "audio": "the sound alone",
    "video": "the clip alone",
    "none": "the text alone",
    "captions": "captions in place of media (oracle)",
}

Cells = Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One question put to the composite.

    Attributes:
        answer: what came back.
        right: the right option.
    """

    answer: Answer
    right: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What the composite keeps of one expert.

    Attributes:
        regime: how the experts were trained.
        modality: of the expert.
        row: the composite against the expert, on the expert's own questions.
    """

    regime: str
    modality: str
    row: "ComparedRow"


@dataclass(frozen=True, slots=True, kw_only=True)
class QuickstartResult:
    """Everything that the quickstart measured.

    Attributes:
        out: where models, results and reports lie.
        mcub: by regime, questions about what inputs have in common.
        kept: of every expert.
        asked: one cross-modal question.
    """

    out: Path
    mcub: Mapping[str, "TaskResult"]
    kept: Sequence[Kept]
    asked: Asked

    def tables(self) -> Iterator[tuple[str, Cells, list[Cells]]]:
        """Title, header and rows of each table."""
        header: Cells = (
            "composite",
            "shown",
            "n",
            "score",
            "95 % interval",
            "all three minus this",
        )
        yield TOGETHER, header, self._together()
        header = ("expert", "regime", "n", "alone", "in the composite", "kept", "difference")
        yield RETENTION, header, list(map(_kept, self.kept))

    def render(self) -> RenderableType:
        """The tables for a terminal."""
        return Group(*map(_table, self.tables()))

    def closing(self) -> str:
        """The question and where everything lies; its paths are long, print its lines whole."""
        return f"{self._question()}\n{self._places()}"

    def markdown(self) -> str:
        """The tables for a page."""
        parts = []
        for title, header, rows in self.tables():
            lines = [_line(header), _line(["---"] * len(header)), *map(_line, rows)]
            parts.append("\n".join([f"{title}:", "", *lines]))
        return "\n\n".join(parts) + "\n"

    def _together(self) -> list[Cells]:
        rows, gains = _rows(self.mcub["standard"]), _gains(self.mcub["standard"])
        found: list[Cells] = [
            ("NaiveMC, standard", shown, *_score(rows[subset]), _known(gains.get(subset)))
            for subset, shown in SHOWN.items()
        ]
        stressed = _rows(self.mcub["stressed"])[ALL]
        return [*found, ("NaiveMC, stressed", SHOWN[ALL], *_score(stressed), "")]

    def _question(self) -> str:
        answer = self.asked.answer
        shown = "\n".join(
            f"  {item.modality}: {item.path} ({item.num_tokens} tokens, {item.stream} stream)"
            for item in answer.inputs
        )
        return (
            f"\nAsked with\n{shown}\n{answer.question}\n"
            f"-> {answer.answer}   (right: {self.asked.right})"
        )

    def _places(self) -> str:
        report = self.out / "results" / "naive-standard-mcub" / "report.html"
        model = self.out / "models" / "naive-standard"
        return f"\nThe composite lies in {model}, its report in {report}."


def _table(parts: tuple[str, Cells, list[Cells]]) -> Table:
    title, header, rows = parts
    table = Table(*header, title=title, title_justify="left")
    for row in rows:
        table.add_row(*row)
    return table


def _rows(result: "TaskResult") -> dict[str, "Row"]:
    """Questions about three inputs, by what was shown."""
    return {row.subset: row for row in result.rows if row.score == "letter" and row.group == ALL}


def _gains(result: "TaskResult") -> dict[str, "Estimate"]:
    """All three minus one alone, paired, by that one."""
    return {
        modality: gain.difference
        for entry in result.complementarity
        if entry.group == ALL and entry.score == "letter"
        for modality, gain in entry.gains.items()
    }


def _kept(kept: Kept) -> Cells:
    alone, together = kept.row.value_b, kept.row.value_a
    difference = kept.row.comparison.difference
    return (
        kept.modality,
        kept.regime,
        str(difference.n),
        _percent(alone),
        _percent(together),
        f"{100 * together / alone:.1f}" if alone else "",
        _known(difference),
    )


def _score(row: "Row") -> Cells:
    return str(row.n), _percent(row.accuracy.value), _interval(row.accuracy)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def _known(estimate: "Estimate | None") -> str:
    return f"{_percent(estimate.value)} {_interval(estimate)}" if estimate else ""


def _interval(estimate: "Estimate") -> str:
    if estimate.low is None or estimate.high is None:
        return ""
    return f"[{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def _line(cells: Cells) -> str:
    return f"| {' | '.join(cells)} |"
