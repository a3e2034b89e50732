"""What the search asks: questions of benchmarks, or prompts of a user's own without answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omnicompose.evaluation.sample import Medium, Sample, file_sha256
from omnicompose.evaluation.subsets import Content, subsets_of, view
from omnicompose.evaluation.tasks import find_tasks
from omnicompose.statistics.prompts import Prompt, Shown, read_prompts


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One question.

    Attributes:
        id: of the question in its source.
        cluster: questions of one cluster are not independent.
        content: the user turn, every medium shown.
        openings: how a reply that chooses each option begins; empty: with its letter.
        num_options: to choose from; 0 where there are none.
        answer: number of the right one; None where it is not known, or not chosen by a letter.
    """

    id: str
    cluster: str
    content: Content
    openings: tuple[str, ...] = ()
    num_options: int = 0
    answer: int | None = None

    @property
    def modalities(self) -> frozenset[str]:
        """Of the media shown."""
        return frozenset(part.modality for part in self.content if isinstance(part, Medium))


def task_questions(
    names: Sequence[str], media_dir: Path, limit: int | None
) -> dict[str, tuple[Asked, ...]]:
    """The questions of benchmarks, at most `limit` per set of modalities.

    Raises:
        EvaluationError: an unknown task.
    """
    return {
        task.spec.name: tuple(_asked(sample) for sample in task.samples(media_dir, limit))
        for task in find_tasks(names, None)
    }


def _asked(sample: Sample) -> Asked:
    (everything,) = subsets_of(sample, ("all",))
    return Asked(
        id=sample.id,
        cluster=sample.cluster,
        content=view(sample, everything),
        openings=sample.openings,
        num_options=len(sample.choices),
        answer=sample.answer if sample.has_letter_score else None,
    )


def read_unlabelled(path: Path) -> tuple[Asked, ...]:
    """Prompts of a user's own, in the format of calibration data; replies are not looked at.

    Prompts of one medium form a cluster.

    Raises:
        CalibrationError: the file is not there or holds none, or a line is no prompt.
    """
    return tuple(_prompted(prompt) for prompt in read_prompts(path).prompts)


def _prompted(prompt: Prompt) -> Asked:
    content = tuple(
        Medium(modality=part.modality, path=part.path, sha256=file_sha256(part.path))
        if isinstance(part, Shown)
        else part
        for part in prompt.content
    )
    media = [part.sha256 for part in content if isinstance(part, Medium)]
    number = str(prompt.line)
    return Asked(id=number, cluster=media[0] if media else number, content=content)
