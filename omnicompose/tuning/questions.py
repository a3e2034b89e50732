"""What the search asks: questions of benchmarks, or prompts of a user's own without answers."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omnicompose.errors import TuningError
from omnicompose.evaluation.sample import Medium, Sample, file_sha256
from omnicompose.evaluation.subsets import Content, subsets_of, view
from omnicompose.evaluation.tasks import find_tasks
from omnicompose.modalities import MODALITIES


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One question.

    Attributes:
        id: of the question in its source.
        cluster: questions of one cluster are not independent.
        content: the user turn, every medium shown.
        openings: how a reply that chooses each option begins; empty: with its letter.
        num_options: to choose from; 0 where there are none.
        answer: number of the right one; None where it is not known.
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
        answer=sample.answer,
    )


def read_unlabelled(path: Path) -> tuple[Asked, ...]:
    """Prompts from JSON lines: `{"content": [{"type": "image", "path": "a.png"}, "what is it?"]}`.

    Relative paths start from the file's folder. Prompts of one medium form a cluster.

    Raises:
        TuningError: a line is no such object, or a medium is not there.
    """
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        where = f"{path}:{number}"
        try:
            parts = json.loads(line)["content"]
            content = tuple(_part(part, path.parent) for part in parts)
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise TuningError(
                f'{where}: found {line[:60]!r} ({error}); expected {{"content": [...]}} with texts '
                'and {"type": modality, "path": file}.'
            ) from error
        media = [part.sha256 for part in content if isinstance(part, Medium)]
        found.append(
            Asked(id=str(number), cluster=media[0] if media else str(number), content=content)
        )
    return tuple(found)


def _part(part: object, folder: Path) -> Medium | str:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict) or part.get("type") not in MODALITIES:
        raise ValueError(f"type is none of {', '.join(MODALITIES)}")
    file = folder / str(part["path"])
    return Medium(modality=part["type"], path=file, sha256=file_sha256(file))
