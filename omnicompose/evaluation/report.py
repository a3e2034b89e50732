"""The report: report.md for a terminal or an issue, report.html to send to a colleague.

Everything is computed from the samples of the folder; the page needs no network and no script.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from omnicompose.evaluation import wording
from omnicompose.evaluation.compare import MARGIN, ComparedRow, compare
from omnicompose.evaluation.examples import Example, make_examples
from omnicompose.evaluation.interference import Interference, read_interference
from omnicompose.evaluation.journal import write_atomically
from omnicompose.evaluation.line import Line
from omnicompose.evaluation.plots import IntervalPlot, Lattice, interval_plot, lattice
from omnicompose.evaluation.results import Complementarity, Results, Row, TaskResult
from omnicompose.evaluation.scoring import read_run, read_samples, score
from omnicompose.evaluation.statistics import Coalition, coalitions
from omnicompose.evaluation.subsets import coalition
from omnicompose.evaluation.task import TaskSpec
from omnicompose.evaluation.tasks import TASKS

NUM_EXAMPLES = 4
"""Of each kind shown; ten of each are named in results.json."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Questions over one set of modalities, scored in one way.

    Attributes:
        group: modalities that the questions show.
        score: kind of score.
        rows: one per subset.
        official: by subset, the same replies read by the benchmark's own rule.
        accuracy: the rows as a plot.
        entry: whether the modalities complement each other, if that can be said.
        lattice: all subsets; None unless all were asked.
        shapley: None unless all subsets were asked.
        rescued: questions that need everything together.
        lost: questions that everything together spoils.
    """

    group: str
    score: str
    rows: tuple[Row, ...]
    official: Mapping[str, Row]
    accuracy: IntervalPlot
    entry: Complementarity | None
    lattice: Lattice | None
    shapley: IntervalPlot | None
    rescued: tuple[Example, ...]
    lost: tuple[Example, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One benchmark.

    Attributes:
        name: of the task.
        spec: what it declares; None for a task of another installation.
        result: its numbers.
        tiles: the rows that the headline speaks of.
        headline: what can be said.
        cautions: what must be known before.
        blocks: the tables and plots.
        errors: why questions could not be asked, the first of them.
    """

    name: str
    spec: TaskSpec | None
    result: TaskResult
    tiles: tuple[Row, ...]
    headline: tuple[str, ...]
    cautions: tuple[str, ...]
    blocks: tuple[Block, ...]
    errors: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """The composite against one of its experts on shared tasks."""

    expert: str
    rows: tuple[ComparedRow, ...]


def write_report(
    results_dir: Path,
    sources: Mapping[str, Path] | None = None,
) -> Path:
    """Write report.md and report.html into a results folder.

    Args:
        results_dir: a folder that `evaluate` wrote.
        sources: results folders of single experts by name, for the retention table.

    Returns:
        The path of report.html.

    Raises:
        EvaluationError: see `score` and `compare`.
    """
    results = score(results_dir)
    samples = {lines[0].task: lines for lines in read_samples(results_dir, read_run(results_dir))}
    sections = [
        _section(name, result, samples[name], results_dir) for name, result in results.tasks.items()
    ]
    retention = [
        Retention(
            expert=name,
            rows=tuple(row for row in compare(results_dir, folder) if row.subset == row.group),
        )
        for name, folder in (sources or {}).items()
    ]
    interference = read_interference(results_dir)
    pages = _environment()
    for name in ("report.md", "report.html"):
        page = pages.get_template(f"{name}.j2").render(
            results=results,
            sections=sections,
            retention=retention,
            interference=interference,
            most_changed=_most_changed(interference),
            margin=MARGIN,
            title=_title(results),
        )
        write_atomically(results_dir / name, page.encode())
    return results_dir / "report.html"


def _most_changed(interference: Interference | None) -> float:
    layers = interference.layers if interference else ()
    return max((norm for layer in layers for norm in layer.norms.values()), default=0.0)


def _share(value: float, of: float) -> int:
    """A bar's length in percent."""
    return round(100 * value / of) if of else 0


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("omnicompose.evaluation"),
        autoescape=select_autoescape(["html.j2", "html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals.update(
        percent=wording.percent,
        points=wording.points,
        interval=wording.interval,
        plus_minus=wording.plus_minus,
        p_value=wording.p_value,
        power_line=wording.power_line,
        rescue_sentence=wording.rescue_sentence,
        partial=wording.partial,
        score_names=wording.SCORE_NAMES,
        share=_share,
    )
    return environment


def _title(results: Results) -> str:
    return Path(results.run.model.path).name if results.run else "Evaluation"


def _section(name: str, result: TaskResult, lines: Sequence[Line], folder: Path) -> Section:
    keys = dict.fromkeys((r.group, r.score) for r in result.rows if r.score != "official")
    return Section(
        name=name,
        spec=TASKS[name].spec if name in TASKS else None,
        result=result,
        tiles=tuple(wording.headline_rows(result)),
        headline=tuple(wording.headline(result)),
        cautions=tuple(wording.cautions(result)),
        blocks=tuple(_block(result, lines, key, folder) for key in keys),
        errors=tuple(f"{line.id}: {line.error}" for line in lines if line.error)[:10],
    )


def _block(result: TaskResult, lines: Sequence[Line], key: tuple[str, str], folder: Path) -> Block:
    group, kind = key
    rows = tuple(
        row for row in result.rows if (row.group, row.score) == key and ":" not in row.subset
    )  # controls have a table of their own
    entry = next((e for e in result.complementarity if (e.group, e.score) == key), None)
    chance = next((row.chance for row in rows if row.chance is not None), None)
    cells = _cells(lines, key, [row.subset for row in rows])
    return Block(
        group=group,
        score=kind,
        rows=rows,
        official={
            row.subset: row
            for row in result.rows
            if kind == "generate" and (row.group, row.score) == (group, "official")
        },
        accuracy=interval_plot(
            f"Right answers by what was given, {group}",
            [(row.subset, row.accuracy) for row in rows],
            rule=None if chance is None else (chance, "chance"),
        ),
        entry=entry,
        lattice=_lattice(group, rows),
        shapley=interval_plot(f"Shapley values, {group}", list(entry.shapley.items()), signed=True)
        if entry and entry.shapley
        else None,
        rescued=_examples(entry.rescued_ids if entry else (), cells, group, folder),
        lost=_examples(entry.lost_ids if entry else (), cells, group, folder),
    )


def _cells(
    lines: Sequence[Line], key: tuple[str, str], subsets: Sequence[str]
) -> dict[str, dict[str, Line]]:
    """Lines by subset and id."""
    group, kind = key
    cells: dict[str, dict[str, Line]] = {subset: {} for subset in subsets}
    for line in lines:
        if line.group == group and line.score == kind and line.subset in cells:
            cells[line.subset].setdefault(line.id, line)
    return cells


def _examples(
    ids: Sequence[str], cells: Mapping[str, Mapping[str, Line]], group: str, folder: Path
) -> tuple[Example, ...]:
    known = [i for i in ids if i in cells[group]]
    return tuple(make_examples(known[:NUM_EXAMPLES], cells, group, folder))


def _lattice(group: str, rows: Sequence[Row]) -> Lattice | None:
    modalities = group.split("+")
    values: dict[Coalition, float] = {
        given: row.accuracy.value
        for row in rows
        if row.accuracy.value is not None and (given := coalition(row.subset)) is not None
    }
    if len(modalities) < 2 or any(subset not in values for subset in coalitions(modalities)):
        return None
    return lattice(f"Accuracy of every subset, {group}", values, modalities)
