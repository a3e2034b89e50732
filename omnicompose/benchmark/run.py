"""Run a benchmark: every row that is not there yet, then the comparison of all of them."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

from omnicompose.benchmark.bench import WORK, Bench, open_bench
from omnicompose.benchmark.cells import AVERAGE as AVERAGE_METHOD
from omnicompose.benchmark.cells import Cell, cells_of
from omnicompose.benchmark.ground import Built, Content, remove
from omnicompose.benchmark.options import BenchmarkOptions
from omnicompose.benchmark.questions import Questions, Scores
from omnicompose.benchmark.report import write_report
from omnicompose.benchmark.rows import (
    METHOD,
    NOT_RUN,
    REFERENCE,
    Row,
    Tried,
    finished,
    sole_writer,
    write_row,
)
from omnicompose.benchmark.suite import Suite
from omnicompose.benchmark.summary import AVERAGE, Exam, Summary, summarise
from omnicompose.errors import (
    CalibrationError,
    MergeError,
    PlanError,
    RecipeError,
    TuningError,
)
from omnicompose.evaluation.journal import file_name

Say = Callable[[str], None]
FOUND = "found.yaml"
"""What a search writes: the recipe of its coefficients, which merges without data."""
_OF_ONE_ROW = (CalibrationError, MergeError, PlanError, RecipeError, TuningError)
"""What keeps one row from being made, and none of the others."""


def run(suite: Suite, out: Path, options: BenchmarkOptions, say: Say) -> Summary:
    """Build and ask every row, then write results.csv, report.md and pareto.svg to `out`.

    Args:
        suite: what is compared.
        out: gets one file per row; rows that it holds already are not made again.
        options: what of the suite is run.
        say: takes one line of progress.

    Raises:
        RecipeError: an unknown method, variant, profile or parameter.
        SourceError: a model cannot be opened.
        EvaluationError: an unknown task, or a file in `out` that is none of ours; another process
            that runs into `out`.
    """
    cells = cells_of(suite, options.methods)  # before anything heavy: mistakes show at once
    out = out.absolute()  # recipes are written there, whose paths start where they lie
    with sole_writer(out):
        return _run(open_bench(suite, out, options), cells, say)


def _run(bench: Bench, cells: Sequence[Cell], say: Say) -> Summary:
    suite, out = bench.suite, bench.out
    rows = [
        *(_reference(bench, label, content, say) for label, content in _references(bench)),
        *(_row(bench, cell, say) for cell in cells),
    ]
    if not bench.options.keep:
        shutil.rmtree(out / WORK, ignore_errors=True)
    questions = bench.test.by_task
    exam = Exam(
        tasks=suite.tasks,
        skills=suite.skills,
        clusters={task: [one.cluster for one in asked] for task, asked in questions.items()},
    )
    summary = summarise(suite.name, exam, rows)
    write_report(out, summary)
    return summary


def _references(bench: Bench) -> list[tuple[str, Content]]:
    """The models themselves, and the plain weight average."""
    policy = bench.suite.modality[0] if bench.suite.kind == "compose" else ""
    (average,) = [cell for cell in cells_of(bench.suite, [AVERAGE_METHOD]) if cell.policy == policy]
    content = bench.ground.recipe(average, 0)
    return [*bench.ground.references().items(), (AVERAGE, content)]


def _reference(bench: Bench, label: str, content: Content, say: Say) -> Row:
    """A model as it is, or the plain average: nothing is chosen."""
    key = bench.row_key(None, label)
    if (done := finished(bench.out, label, key)) is not None:
        return done
    built = bench.ground.build(content, _folder(bench, label, 0))
    scores = _ask(bench, built, bench.test, 1.0)
    row = Row(label=label, kind=REFERENCE, key=key, scores=scores, plain=scores, **_costs([built]))
    return _finish(bench, row, [built], say)


def _row(bench: Bench, cell: Cell, say: Say) -> Row:
    """A method's row; one that could not be made before is tried again."""
    key = bench.row_key(cell, cell.label)
    done = finished(bench.out, cell.label, key)
    if done is not None and done.kind != NOT_RUN:
        return done
    reason, built = cell.reason, list[Built]()
    if not reason:
        try:
            return _finish(bench, _method_row(bench, cell, key, built), built, say)
        except _OF_ONE_ROW as error:
            reason = str(error)
    row = Row(kind=NOT_RUN, key=key, reason=reason, **_names(bench, cell))
    return row if row == done else _finish(bench, row, built, say)


def _method_row(bench: Bench, cell: Cell, key: str, built: list[Built]) -> Row:
    """Build with every seed, choose the scale on the validation questions, ask the others.

    `built` gets what was built, also where a later step fails.
    """
    seeds = (bench.options.seeds or bench.suite.seeds) if cell.spec.stochastic else 1
    for seed in range(seeds):
        content = bench.ground.recipe(cell, seed)
        built.append(bench.ground.build(content, _folder(bench, cell.label, seed)))
    tried = _tried(bench, built)
    scale = _best(tried)
    plain = runs = [_ask(bench, one, bench.test, 1.0) for one in built]
    if scale != 1.0:
        runs = [_ask(bench, one, bench.test, scale) for one in built]
    return Row(
        kind=METHOD,
        key=key,
        seeds=seeds,
        scale=scale,
        tried=tried,
        scores=_mean(runs),
        plain=_mean(plain),
        runs=tuple(fmean(fmean(run[task]) for task in bench.suite.tasks) for run in runs),
        **_names(bench, cell),
        **_costs(built),
    )


def _tried(bench: Bench, built: Sequence[Built]) -> tuple[Tried, ...]:
    scales = bench.suite.scales
    if len(scales) == 1:
        return ()
    found: dict[float, list[float]] = {scale: [] for scale in scales}
    for one in built:
        for scale in scales:
            scores = _ask(bench, one, bench.validation, scale)
            found[scale].append(fmean(fmean(values) for values in scores.values()))
    return tuple(Tried(scale=scale, accuracy=fmean(found[scale])) for scale in scales)


def _best(tried: Sequence[Tried]) -> float:
    """The scale that did best; of equals the one nearest to 1."""
    if not tried:
        return 1.0
    return max(tried, key=lambda one: (one.accuracy, -abs(one.scale - 1.0))).scale


def _ask(bench: Bench, built: Built, questions: Questions, scale: float) -> Scores:
    composite = bench.ground.take(built.folder, scale)
    return questions.ask(composite, bench.options.batch_size)


def _mean(runs: Sequence[Scores]) -> Scores:
    return {
        task: tuple(map(fmean, zip(*(scores[task] for scores in runs), strict=True)))
        for task in runs[0]
    }


def _folder(bench: Bench, label: str, seed: int) -> Path:
    return bench.out / WORK / f"{file_name(label)}-{seed}"


def _names(bench: Bench, cell: Cell) -> dict[str, object]:
    variant = cell.variant
    counts = bench.calibration.num_questions
    shown = f"{sum(counts[name] for name in cell.models)} {cell.data}" if cell.data else ""
    return {
        "label": cell.label,
        "method": variant.method,
        "profile": variant.profile or "",
        "parameters": dict(variant.parameters),
        "policy": cell.policy,
        "models": cell.models,
        "data": shown,
    }


def _costs(built: Sequence[Built]) -> dict[str, object]:
    return {
        "seconds": fmean(one.seconds for one in built),
        "cpu_seconds": fmean(one.cpu_seconds for one in built),
        "peak_bytes": max(one.peak_bytes for one in built),
        "memory_bytes": max(one.memory_bytes for one in built),
    }


def _finish(bench: Bench, row: Row, built: Sequence[Built], say: Say) -> Row:
    """Keep the row and its recipes; merged folders go unless they are wanted."""
    write_row(bench.out, row)
    for one in built:
        place = bench.out / "recipes" / one.recipe.name
        place.parent.mkdir(exist_ok=True)
        shutil.copyfile(one.recipe, place)
        found = one.folder.with_name(f"{one.folder.name}.search") / FOUND
        if found.is_file():
            shutil.copyfile(found, place.with_suffix(".found.yaml"))
        if not bench.options.keep:
            remove(one.folder)
    asked = [task for task in bench.suite.tasks if task in row.scores]
    score = f"{100 * fmean(row.accuracy(task) for task in asked):.1f} %" if asked else row.reason
    say(f"{row.label}: {score}")
    return row
