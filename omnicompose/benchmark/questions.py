"""The questions of a suite, and what a loaded model scores on them."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from omnicompose.evaluation.composite import Composite
from omnicompose.evaluation.sample import Sample
from omnicompose.evaluation.subsets import subsets_of, view
from omnicompose.evaluation.tasks import find_tasks
from omnicompose.tuning.objectives import option_scores, prepare
from omnicompose.tuning.questions import Asked

Scores = Mapping[str, tuple[float, ...]]
"""By task, 1 for every question answered rightly and 0 for every other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """Questions by task, each task's in one order.

    Attributes:
        by_task: as the suite names the tasks.
    """

    by_task: Mapping[str, tuple[Asked, ...]]

    @property
    def digest(self) -> str:
        """Changes with any question, option or answer."""
        content = [
            [name, one.id, one.cluster, str(one.openings), str(one.answer), _content(one)]
            for name, asked in self.by_task.items()
            for one in asked
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def ask(self, composite: Composite, batch_size: int) -> Scores:
        """What a model scores on every question, by the likelihood of the options."""
        joined = [one for asked in self.by_task.values() for one in asked]
        prepared = prepare(composite, joined)
        found = option_scores(composite, joined, prepared, batch_size)
        right = iter([float(is_right) for _, is_right in found])
        return {name: tuple(next(right) for _ in asked) for name, asked in self.by_task.items()}


def read_questions(names: Sequence[str], media_dir: Path, limit: int | None) -> Questions:
    """The questions of tasks, written as `TASK` or `TASK@SHOWN`.

    Raises:
        EvaluationError: an unknown task.
    """
    by_task: dict[str, tuple[Asked, ...]] = {}
    for name in names:
        task, _, shown = name.partition("@")
        (found,) = find_tasks([task], None)
        samples = found.samples(media_dir, limit)
        by_task[name] = tuple(_asked(sample, shown or "all") for sample in samples)
    return Questions(by_task=by_task)


def _asked(sample: Sample, shown: str) -> Asked:
    (subset,) = subsets_of(sample, (shown,))
    return Asked(
        id=sample.id,
        cluster=sample.cluster,
        content=view(sample, subset),
        openings=sample.openings,
        num_options=len(sample.choices),
        answer=sample.answer,
    )


def _content(asked: Asked) -> list[str]:
    return [part if isinstance(part, str) else part.sha256 for part in asked.content]
