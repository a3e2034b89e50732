"""From samples to results: no model needed, every number computed again from the lines."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import get_args

from pydantic import ValidationError

from omnicompose.errors import EvaluationError
from omnicompose.evaluation.complement import complementarity, with_holm
from omnicompose.evaluation.journal import file_name, read_lines, write_atomically
from omnicompose.evaluation.line import Line
from omnicompose.evaluation.official import OFFICIAL, Reader
from omnicompose.evaluation.reliance import controls
from omnicompose.evaluation.results import Macro, Results, Row, RowKind, RunFacts, TaskResult
from omnicompose.evaluation.rows import Cell, category_rows, make_row
from omnicompose.evaluation.sample import MODALITY_ORDER
from omnicompose.evaluation.subsets import coalition
from omnicompose.evaluation.tasks import TASKS

RUN_NAME, RESULTS_NAME = "run.json", "results.json"
KINDS: tuple[RowKind, ...] = get_args(RowKind)


def samples_path(results_dir: Path, task: str) -> Path:
    """Where a task's merged lines lie."""
    return results_dir / f"samples_{file_name(task)}.jsonl"


def score(results_dir: Path) -> Results:
    """Compute results.json again from the samples of a results folder, and write it.

    Args:
        results_dir: a folder that `evaluate` wrote.

    Raises:
        EvaluationError: no samples, a line that is not ours, or a question that occurs twice.
    """
    run = read_run(results_dir)
    tasks = {
        lines[0].task: summarise(lines, run.seed if run else 0)
        for lines in read_samples(results_dir, run)
    }
    macro = {} if run and run.is_partial else _macro(tasks)
    results = Results(run=run, tasks=tasks, macro=macro)
    write_atomically(results_dir / RESULTS_NAME, to_json(results))
    return results


def to_json(record: Results | RunFacts) -> bytes:
    """The bytes of results.json or run.json."""
    return (record.model_dump_json(indent=2) + "\n").encode()


def read_run(results_dir: Path) -> RunFacts | None:
    """run.json, if the folder has one.

    Raises:
        EvaluationError: it is not what this version writes.
    """
    path = results_dir / RUN_NAME
    if not path.is_file():
        return None
    try:
        return RunFacts.model_validate_json(path.read_bytes())
    except ValidationError as err:
        raise EvaluationError(
            f"{path}: {err.errors()[0]['msg']}; expected the file that evaluate writes. "
            "Delete it to score the samples without it."
        ) from err


def read_samples(results_dir: Path, run: RunFacts | None) -> list[list[Line]]:
    """The merged lines of each task: those that run.json names, else all that lie there.

    Raises:
        EvaluationError: nothing to read, an unfinished task, or a question that occurs twice.
    """
    found = sorted(results_dir.glob("samples_*.jsonl"))
    paths = [samples_path(results_dir, task) for task in run.tasks] if run else found
    missing = [path for path in paths if not path.is_file()]
    if not paths or missing:
        what = missing[0].name if missing else "samples_TASK.jsonl"
        raise EvaluationError(
            f"{results_dir}: {what} is missing, so there is nothing to score; "
            "run evaluate with this --out (it resumes what was interrupted)."
        )
    return [_checked(path, read_lines(path)) for path in paths]


def summarise(lines: Sequence[Line], seed: int) -> TaskResult:
    """The table and the complementarity of one task's lines."""
    cells: dict[Cell, list[Line]] = {}
    for line in (*lines, *_official(lines)):
        kind: RowKind = "official" if line.rule == "official" else line.score
        cells.setdefault((line.group, line.subset, kind), []).append(line)
    rows = [make_row(cell, cells[cell]) for cell in sorted(cells, key=_table_order)]
    groups = sorted({(g, k) for g, _, k in cells if k != "official"}, key=_block_order)
    return TaskResult(
        version=lines[0].task_version,
        questions=len({line.id for line in lines}),
        clusters=len({line.cluster for line in lines}),
        rows=tuple(rows),
        complementarity=with_holm(
            complementarity(group, kind, _asked_with(cells, group, kind), seed)
            for group, kind in groups
        ),
        controls=tuple(
            control
            for group, kind in groups
            for control in controls(group, kind, _asked_with(cells, group, kind), seed)
        ),
        categories=category_rows(cells),
    )


def _asked_with(
    cells: Mapping[tuple[str, str, RowKind], list[Line]], group: str, kind: RowKind
) -> dict[str, list[Line]]:
    return {subset: lines for (g, subset, k), lines in cells.items() if (g, k) == (group, kind)}


def _official(lines: Iterable[Line]) -> list[Line]:
    """The generated replies once more, read as the benchmark's authors read them."""
    return [
        _officially_read(line, OFFICIAL[official])
        for line in lines
        if line.score == "generate"
        and line.task in TASKS
        and (official := TASKS[line.task].spec.official) is not None
    ]


def _officially_read(line: Line, read: Reader) -> Line:
    answer = read(line.reply or "", line.choices, line.target)
    correct = None if line.correct is None else int(answer == line.target)
    return line.model_copy(update={"answer": answer, "rule": "official", "correct": correct})


def _table_order(cell: tuple[str, str, RowKind]) -> tuple[tuple[int, str, int], int, list[int]]:
    """Within a block the full subset first, then smaller ones, none, captions."""
    group, subset, kind = cell
    given = coalition(subset)
    rank = -len(given) if given else {"none": 1, "captions": 2}.get(subset, 3)
    places = [MODALITY_ORDER.index(m) for m in re.split("[+:]", subset) if m in MODALITY_ORDER]
    return _block_order((group, kind)), rank, [*places, len(subset)]


def _block_order(block: tuple[str, RowKind]) -> tuple[int, str, int]:
    """Questions that show most first; letter, generate, official."""
    group, kind = block
    return -group.count("+"), group, KINDS.index(kind)


def _macro(tasks: dict[str, TaskResult]) -> dict[str, Macro]:
    full: dict[str, list[Row]] = {}
    for task in tasks.values():
        for row in task.rows:
            if row.is_full and not row.errors and row.chance is not None:
                full.setdefault(row.score, []).append(row)
    return {kind: _macro_of(rows) for kind, rows in sorted(full.items())}


def _macro_of(rows: Sequence[Row]) -> Macro:
    corrected, errors = [], []
    for row in rows:
        chance = row.chance or 0.0
        corrected.append(((row.accuracy.value or 0.0) - chance) / (1 - chance))
        errors.append(None if row.accuracy.stderr is None else row.accuracy.stderr / (1 - chance))
    known = [e for e in errors if e is not None]
    stderr = math.sqrt(math.fsum(e * e for e in known)) / len(rows)
    return Macro(
        value=math.fsum(corrected) / len(rows),
        stderr=stderr if len(known) == len(rows) else None,
        groups=len(rows),
    )


def _checked(path: Path, lines: list[Line]) -> list[Line]:
    twice = [order for order, times in Counter(line.order for line in lines).items() if times > 1]
    if twice or not lines:
        found = f"question {twice[0][0]} occurs twice" if twice else "the file is empty"
        raise EvaluationError(
            f"{path}: {found}; expected one line per question, subset and score. "
            "Delete the file and run evaluate again: it is rebuilt from the journal."
        )
    return lines
