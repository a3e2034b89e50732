"""What the zoo's tasks share: its questions, with a held-out medium for every item."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePath

import numpy as np

from omnicompose.errors import EvaluationError
from omnicompose.evaluation.sample import Medium, Options, Sample, Shown
from omnicompose.evaluation.task import TaskSpec
from omnicompose.zoo import media as zoo_media
from omnicompose.zoo.questions import Kind, Question, caption_line, lettered, make_questions

SIZE = 1000
"""Questions per set of modalities."""
SEED = 20_260
"""Of the scored questions; lessons are drawn without a question seed at all."""
LOCATION = "drawn by omnicompose.zoo.questions; media from zoo/assets/media, held out of training"
LICENCE = "Apache-2.0 (handwriting: scikit-learn's digits, CC BY 4.0)"
OPTIONS = Options(style="{choice} ({letter})")
CLUSTER_FIELD = "handwriting of the picture, else of the clip, else the sound's file"


@dataclass(frozen=True, slots=True, kw_only=True)
class ZooTask:
    """One kind of zoo question over one or more sets of modalities.

    Attributes:
        spec: what it is.
        kind: of question.
        groups: sets of modalities, `SIZE` questions each.
    """

    spec: TaskSpec
    kind: Kind
    groups: tuple[tuple[str, ...], ...]

    def samples(self, media_dir: Path, limit: int | None) -> list[Sample]:
        """The first `limit` (at most `SIZE`) questions of every group."""
        count = SIZE if limit is None else min(limit, SIZE)
        return [
            _sample(question, index, media_dir)
            for group in self.groups
            for index, question in enumerate(_questions(self.kind, group, count))
        ]


@cache
def _questions(kind: Kind, modalities: tuple[str, ...], count: int) -> tuple[Question, ...]:
    return make_questions(kind, modalities, count, SEED)


def _sample(question: Question, index: int, media_dir: Path) -> Sample:
    if question.answer_index is None:
        raise EvaluationError(f"{question.id}: {question.kind} questions have no right letter.")
    library, rng = zoo_media.held_out_media(), np.random.default_rng((SEED, index))
    chosen = [library.choose(item, rng) for item in question.items]
    shown = [
        Shown(medium=_written(medium, media_dir), caption=caption_line(medium.item))
        for medium in chosen
    ]
    return Sample(
        id=question.id,
        cluster=_cluster(chosen),
        content=(*shown, question.text.removesuffix(lettered(question.options)), OPTIONS),
        choices=question.options,
        answer=question.answer_index,
        openings=question.options,
    )


def _cluster(media: Sequence[zoo_media.Medium]) -> str:
    """Questions on one handwriting sample hang together; two voices make no clusters."""
    by_modality = {medium.item.modality: medium for medium in media}
    for modality in ("image", "video"):
        if modality in by_modality:
            return f"{modality} {by_modality[modality].cluster}"
    return media[0].name


@cache
def _sha256(medium: zoo_media.Medium) -> str:
    return hashlib.sha256(medium.data).hexdigest()


def _written(medium: zoo_media.Medium, folder: Path) -> Medium:
    """The medium as a file named by its digest, so that a stale one is never taken for it."""
    digest, modality = _sha256(medium), medium.item.modality
    path = folder / f"{modality}-{digest[:16]}{PurePath(medium.name).suffix}"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        partial.write_bytes(medium.data)
        partial.replace(path)
    return Medium(modality=modality, path=path, sha256=digest)
