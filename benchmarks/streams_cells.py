"""One cell of a grid: compose the zoo's experts in some way, ask, and read the answers back.

Shared by `streams_grid.py` and `streams_seeds.py`. Composites of the same experts share what their
encoders make of the media; a cell that was asked before is not asked again.
"""

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from omnicompose.composer import ComposeOptions, compose
from omnicompose.evaluation.embeddings import EmbeddingCache
from omnicompose.evaluation.evaluate import ask
from omnicompose.evaluation.line import Line
from omnicompose.evaluation.loading import load_composite
from omnicompose.evaluation.options import EvaluationOptions
from omnicompose.evaluation.rows import answered
from omnicompose.evaluation.runner import Share
from omnicompose.evaluation.scoring import RUN_NAME, read_run, read_samples
from omnicompose.evaluation.statistics import Comparison, compare_paired
from omnicompose.evaluation.tasks import find_tasks

MODALITIES = ("image", "audio", "video")
TOGETHER = "zoo/mcub"
OWN = tuple(f"zoo/{modality}" for modality in MODALITIES)
MEASURES = {"3 inputs": (3,), "2 inputs": (2,), "2 and 3": (2, 3), "own task": (1,)}
"""What is read off a cell: the number of modalities that a question shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A composite to be asked.

    Attributes:
        name: of its results folder.
        sources: modality to expert, as a recipe names it.
        text: the text side, as a recipe writes it.
        modality: the modality side.
    """

    name: str
    sources: Mapping[str, str]
    text: str
    modality: str

    @property
    def recipe(self) -> str:
        """The recipe's YAML."""
        experts = "\n".join(f"  {m}: {{source: {s}}}" for m, s in self.sources.items())
        return (
            f"base: zoo:base\nexperts:\n{experts}\ntext: {self.text}\n"
            f"modality: {self.modality}\ndtype: float32\n"
        )


@dataclass(slots=True, kw_only=True)
class Bench:
    """Where cells are asked, and what they share.

    Attributes:
        out: gets `results/CELL` and nothing else that stays.
        num_questions: per set of modalities.
        tasks: what is asked.
    """

    out: Path
    num_questions: int
    tasks: tuple[str, ...] = (TOGETHER, *OWN)
    _embeddings: dict[tuple[str, ...], EmbeddingCache] = field(default_factory=dict)

    def results(self, cell: Cell) -> Path:
        """The folder of a cell's answers."""
        return self.out / "results" / cell.name

    def is_done(self, cell: Cell) -> bool:
        """Whether a cell has been asked so many questions or more, of all tasks."""
        run = read_run(self.results(cell))
        asked = run is not None and (run.limit or 0) >= self.num_questions
        return asked and set(self.tasks) <= set(run.tasks if run else ())

    def ask(self, cell: Cell) -> float:
        """Compose and ask one cell; the seconds that it took."""
        started = time.perf_counter()
        folder = self.out / "composing" / cell.name
        folder.parent.mkdir(parents=True, exist_ok=True)
        recipe = folder.with_suffix(".yaml")
        recipe.write_text(cell.recipe, encoding="utf-8")
        compose(recipe, folder, ComposeOptions(overwrite=True))
        composite = load_composite(folder, "cpu", "float32")
        # Encoders and connectors are copied from the experts, whatever becomes of the backbone.
        experts = tuple(cell.sources.values())
        composite.cache = self._embeddings.setdefault(experts, composite.cache)
        options = EvaluationOptions(out_dir=self.results(cell), limit=self.num_questions)
        (self.results(cell) / RUN_NAME).unlink(missing_ok=True)
        ask(composite, find_tasks(self.tasks, None), options, (folder, Share()))
        shutil.rmtree(folder)
        return time.perf_counter() - started

    def lines(self, cell: Cell, num_modalities: Sequence[int]) -> list[Line]:
        """The answers to questions that show so many modalities."""
        folder = self.results(cell)
        every = (line for lines in read_samples(folder, read_run(folder)) for line in lines)
        return [line for line in every if len(line.group.split("+")) in num_modalities]


def compare_lines(first: Sequence[Line], second: Sequence[Line]) -> tuple[float, Comparison]:
    """Accuracy of the first, and the first minus the second on the same questions."""
    a, b = ({(x.task, x.group, i): s for x, i, s in _scores(lines)} for lines in (first, second))
    clusters = {(x.task, x.group, x.id): f"{x.task} {x.cluster}" for x in first}
    shared = sorted(a.keys() & b.keys())
    values = [a[key] for key in shared]
    comparison = compare_paired(
        values, [b[key] for key in shared], [clusters[key] for key in shared]
    )
    return sum(values) / len(values), comparison


def _scores(lines: Sequence[Line]) -> list[tuple[Line, str, float]]:
    found = []
    for group in sorted({(line.task, line.group) for line in lines}):
        own = [line for line in lines if (line.task, line.group) == group]
        by_id = {line.id: line for line in own}
        scores = answered(own)
        found += [(by_id[i], i, s) for i, s in zip(scores.ids, scores.scores, strict=True)]
    return found


def interval(comparison: Comparison) -> str:
    """A difference with its 95 % interval, in percentage points."""
    difference = comparison.difference
    if difference.low is None or difference.high is None:
        return f"{100 * difference.value:+.1f}"
    return (
        f"{100 * difference.value:+.1f} [{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]"
    )
