"""Run a benchmark: every row that is not there yet, then the comparison of all of them."""

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from omnicompose.benchmark.cells import AVERAGE as AVERAGE_METHOD
from omnicompose.benchmark.cells import Cell, cells_of
from omnicompose.benchmark.ground import Built, ComposeGround, Content, Ground
from omnicompose.benchmark.host import MergeGround, open_host
from omnicompose.benchmark.options import BenchmarkOptions
from omnicompose.benchmark.questions import Questions, Scores, read_questions
from omnicompose.benchmark.report import write_report
from omnicompose.benchmark.rows import (
    METHOD,
    NOT_RUN,
    REFERENCE,
    Row,
    Tried,
    finished,
    write_row,
)
from omnicompose.benchmark.suite import Suite
from omnicompose.benchmark.summary import AVERAGE, Exam, Summary, summarise
from omnicompose.errors import MergeError, PlanError, RecipeError
from omnicompose.evaluation.journal import file_name
from omnicompose.experts.resolve import resolve
from omnicompose.recipe_values import Source

Say = Callable[[str], None]
WORK = ".work"
_CONTENT_SUFFIXES = (".safetensors", ".json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What stays the same for all rows.

    Attributes:
        suite: what is compared.
        out: the results folder.
        options: what of the suite is run.
        ground: builds merges and opens them.
        test: the questions that rows are ranked by, and those of the base's skills.
        validation: the questions that scales are chosen on.
        key: of everything that all rows depend on.
    """

    suite: Suite
    out: Path
    options: BenchmarkOptions
    ground: Ground
    test: Questions
    validation: Questions
    key: str

    def row_key(self, cell: Cell | None, label: str) -> str:
        """Of one row."""
        variant = None if cell is None else cell.variant.model_dump(mode="json")
        parts = [self.key, label, variant, None if cell is None else cell.policy]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


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
        EvaluationError: an unknown task, or a file in `out` that is none of ours.
    """
    cells = cells_of(suite, options.methods)  # before anything heavy: mistakes show at once
    bench = _open(suite, out, options)
    rows = [
        *(_reference(bench, label, content, say) for label, content in _references(bench)),
        *(_row(bench, cell, say) for cell in cells),
    ]
    if not options.keep:
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


def _open(suite: Suite, out: Path, options: BenchmarkOptions) -> Bench:
    limit = options.limit or suite.limit
    media = out / "media"
    test = read_questions((*suite.tasks, *suite.skills), media, limit)
    validation = read_questions(suite.validation, media, limit)
    (out / WORK).mkdir(parents=True, exist_ok=True)
    ground: Ground = (
        MergeGround(suite, open_host(suite, out / WORK))
        if suite.kind == "merge"
        else ComposeGround(suite.base, suite.experts)
    )
    parts = [
        suite.model_dump(mode="json", exclude={"variants", "summary"}),
        test.digest,
        validation.digest,
        options.seeds or suite.seeds,
        {source.text: _stamps(source) for source in _sources(suite)},
    ]
    key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return Bench(
        suite=suite,
        out=out,
        options=options,
        ground=ground,
        test=test,
        validation=validation,
        key=key,
    )


def _sources(suite: Suite) -> list[Source]:
    named = [suite.base, suite.joint, suite.backbone]
    found = [one for one in named if one is not None]
    return [*found, *suite.models.values(), *suite.experts.values()]


def _stamps(source: Source) -> list[tuple[str, int, int]]:
    """Name, size and time of every file: a model that was trained again is another model."""
    folders = [resolve(source), *([resolve(source.adapter)] if source.adapter else [])]
    files = [path for folder in folders for path in sorted(folder.rglob("*"))]
    kept = [path for path in files if path.suffix in _CONTENT_SUFFIXES]
    return [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in kept]


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
    return _finish(bench, row, say)


def _row(bench: Bench, cell: Cell, say: Say) -> Row:
    key = bench.row_key(cell, cell.label)
    done = finished(bench.out, cell.label, key)
    if done is not None:
        return done
    reason = cell.reason
    if not reason:
        try:
            return _finish(bench, _method_row(bench, cell, key), say)
        except (MergeError, PlanError, RecipeError) as error:
            reason = str(error)
    return _finish(bench, Row(kind=NOT_RUN, key=key, reason=reason, **_names(cell)), say)


def _method_row(bench: Bench, cell: Cell, key: str) -> Row:
    """Build with every seed, choose the scale on the validation questions, ask the others."""
    seeds = (bench.options.seeds or bench.suite.seeds) if cell.spec.stochastic else 1
    built = [
        bench.ground.build(bench.ground.recipe(cell, seed), _folder(bench, cell.label, seed))
        for seed in range(seeds)
    ]
    tried = _tried(bench, built)
    scale = _best(tried)
    plain = _mean([_ask(bench, one, bench.test, 1.0) for one in built])
    scores = plain
    if scale != 1.0:
        scores = _mean([_ask(bench, one, bench.test, scale) for one in built])
    return Row(
        kind=METHOD,
        key=key,
        seeds=seeds,
        scale=scale,
        tried=tried,
        scores=scores,
        plain=plain,
        **_names(cell),
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


def _names(cell: Cell) -> dict[str, object]:
    variant = cell.variant
    return {
        "label": cell.label,
        "method": variant.method,
        "profile": variant.profile or "",
        "parameters": dict(variant.parameters),
        "policy": cell.policy,
    }


def _costs(built: Sequence[Built]) -> dict[str, object]:
    return {
        "seconds": fmean(one.seconds for one in built),
        "cpu_seconds": fmean(one.cpu_seconds for one in built),
        "peak_bytes": max(one.peak_bytes for one in built),
    }


def _finish(bench: Bench, row: Row, say: Say) -> Row:
    """Keep the row and its recipes; merged folders go unless they are wanted."""
    write_row(bench.out, row)
    for recipe in (bench.out / WORK).glob(f"{file_name(row.label)}-*.yaml"):
        place = bench.out / "recipes" / recipe.name
        place.parent.mkdir(exist_ok=True)
        shutil.copyfile(recipe, place)
        if not bench.options.keep:
            shutil.rmtree(recipe.with_suffix(""), ignore_errors=True)
    asked = [task for task in bench.suite.tasks if task in row.scores]
    score = f"{100 * fmean(row.accuracy(task) for task in asked):.1f} %" if asked else row.reason
    say(f"{row.label}: {score}")
    return row
