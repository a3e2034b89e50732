"""What `data.generator` of a training's configuration may name: the zoo's lessons as records."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from omnicompose.errors import TrainingError
from omnicompose.training.config import Stage, TrainConfig
from omnicompose.training.host import modalities_of
from omnicompose.training.train import Generator
from omnicompose.zoo.lessons import Lesson, caption_lesson, media_lesson, text_lesson
from omnicompose.zoo.records import RECORDS_NAME, MediaPool, write_records
from omnicompose.zoo.world import MODALITY_SLOTS

NUM_TRAINING_MEDIA = 8000
TEXT_SHARE = 0.25
"""How often a question has no medium, so that experts do not forget to read."""
MIXED_SHARE = 0.4
"""How often a question with a medium tells of further things as text."""
CURRICULUM: tuple[tuple[float, tuple[float, float, float]], ...] = (
    (0.25, (1.0, 0.0, 0.0)),
    (0.45, (0.3, 0.7, 0.0)),
    (1.0, (0.15, 0.4, 0.45)),
)
"""Of the base: up to which share of its lessons, how often one has one, two or three items."""

Draw = Callable[[np.random.Generator, str], Lesson]
"""A lesson about a modality, drawn from a generator."""


def make_text(config: TrainConfig, stage: Stage, folder: Path) -> Path:
    """Questions about things told as text, from easy to hard: what the base learns from."""
    path = folder / RECORDS_NAME
    rng = np.random.default_rng((config.seed, 0))
    count = stage.data.count
    lessons = (_reading(rng, place / count) for place in range(count))
    write_records(path, lessons, None, rng)
    return path


def make_generators(pools: Path | None = None) -> dict[str, Generator]:
    """Every generator by the name that configurations use.

    `captions` shows media to be described; `questions` asks about a medium, about a medium and
    things told as text, and about text alone; `text` is `make_text`.

    Args:
        pools: a folder with one pool of training media per modality, by `make_pool`; None: each
            training makes its own beside its records.
    """
    return {
        "captions": partial(_make, pools, 0, caption_lesson),
        "questions": partial(_make, pools, 1, _question),
        "text": make_text,
    }


def make_pool(folder: Path, modality: str, seed: int) -> MediaPool:
    """Training media of a modality, made once."""
    return MediaPool.make(modality, folder, count=NUM_TRAINING_MEDIA, seed=seed)


def _make(
    pools: Path | None, purpose: int, draw: Draw, config: TrainConfig, stage: Stage, folder: Path
) -> Path:
    """Records of a modality's lessons; all stages of one training share their media."""
    modality = next(iter(modalities_of(config)), "text")
    if modality not in MODALITY_SLOTS:
        raise TrainingError(
            f"data.generator: the zoo has no lessons about {modality!r}, only about "
            f"{', '.join(MODALITY_SLOTS)}. Name `files`."
        )
    media = folder.parent / "media" if pools is None else pools / f"pool-{modality}"
    pool = make_pool(media, modality, config.seed)
    path = folder / RECORDS_NAME
    rng = np.random.default_rng((config.seed, list(MODALITY_SLOTS).index(modality), purpose))
    lessons = (draw(rng, modality) for _ in range(stage.data.count))
    write_records(path, lessons, pool, rng)
    return path


def _question(rng: np.random.Generator, modality: str) -> Lesson:
    if rng.random() < TEXT_SHARE:
        return text_lesson(rng, int(rng.choice((1, 2, 3), p=(0.2, 0.4, 0.4))))
    return media_lesson(rng, modality, MIXED_SHARE)


def _reading(rng: np.random.Generator, progress: float) -> Lesson:
    """A lesson of one to three items, as the curriculum has it by then."""
    shares = next(shares for until, shares in CURRICULUM if progress < until)
    return text_lesson(rng, 1 + int(rng.choice(len(shares), p=shares)))


GENERATORS = make_generators()
"""Generators whose trainings make their own media."""
