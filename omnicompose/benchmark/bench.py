"""What stays the same for all rows of a benchmark: questions, data, models, and a key of them."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omnicompose.benchmark.calibration import Calibration, refuse_leaks, write_calibration
from omnicompose.benchmark.cells import Cell
from omnicompose.benchmark.ground import ComposeGround, Ground
from omnicompose.benchmark.host import MergeGround, open_host
from omnicompose.benchmark.options import BenchmarkOptions
from omnicompose.benchmark.questions import Questions, read_questions
from omnicompose.benchmark.suite import Suite
from omnicompose.experts.resolve import resolve
from omnicompose.recipe_values import Source

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
        calibration: what methods that look at data are shown.
        key: of everything that all rows depend on.
    """

    suite: Suite
    out: Path
    options: BenchmarkOptions
    ground: Ground
    test: Questions
    validation: Questions
    calibration: Calibration
    key: str

    def row_key(self, cell: Cell | None, label: str) -> str:
        """Of one row."""
        variant = None if cell is None else cell.variant.model_dump(mode="json")
        parts: list[object] = [self.key, label, variant, None if cell is None else cell.policy]
        if cell is not None:
            parts.append(cell.models)
        if cell is not None and cell.data:
            parts.append(self.calibration.digest)
        return _digest(parts)


def open_bench(suite: Suite, out: Path, options: BenchmarkOptions) -> Bench:
    """Read every question, write what is shown to methods, and load what answers.

    Raises:
        SourceError: a model cannot be opened.
        EvaluationError: an unknown task, or one medium in questions of two purposes.
    """
    limit = options.limit or suite.limit
    test = read_questions((*suite.tasks, *suite.skills), out / "media", limit)
    validation = read_questions(suite.validation, out / "media", limit)
    calibration, shown = write_calibration(suite, out, options.limit)
    refuse_leaks(test, {"validation": validation, "calibration": shown})
    (out / WORK).mkdir(parents=True, exist_ok=True)
    return Bench(
        suite=suite,
        out=out,
        options=options,
        ground=_ground(suite, out / WORK, calibration),
        test=test,
        validation=validation,
        calibration=calibration,
        key=_key(suite, options, test, validation),
    )


def _ground(suite: Suite, work: Path, calibration: Calibration) -> Ground:
    if suite.kind == "compose":
        return ComposeGround(suite.base, suite.experts)
    return MergeGround(suite, open_host(suite, work), calibration.files)


def _key(suite: Suite, options: BenchmarkOptions, test: Questions, validation: Questions) -> str:
    return _digest(
        [
            suite.own_content,
            test.digest,
            validation.digest,
            options.seeds or suite.seeds,
            {source.text: _stamps(source) for source in _sources(suite)},
        ]
    )


def _digest(parts: Sequence[object]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


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
