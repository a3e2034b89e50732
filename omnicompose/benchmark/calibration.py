"""What methods that look at data are shown: questions that nothing is ranked by, as JSON lines."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from omnicompose.benchmark.questions import Questions, read_questions
from omnicompose.benchmark.suite import Suite
from omnicompose.errors import EvaluationError
from omnicompose.evaluation.journal import file_name, write_atomically
from omnicompose.evaluation.sample import LETTERS, Medium
from omnicompose.tuning.questions import Asked

FOLDER = "calibration"
"""Below the results folder; the recipes there name its files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Each model's own questions on disk.

    Attributes:
        files: by model; `data:` of a recipe.
        num_questions: in each of them.
        digest: changes with any question, reply or picture.
    """

    files: Mapping[str, Path]
    num_questions: Mapping[str, int]
    digest: str


def write_calibration(suite: Suite, out: Path, limit: int | None) -> tuple[Calibration, Questions]:
    """Write the first questions of every model's task to `out/calibration`.

    Args:
        suite: says which task belongs to which model, and how many questions.
        out: the results folder; `media` in it gets the pictures.
        limit: fewer questions than the suite says; None: as many.

    Returns:
        The files, and the questions in them by task.

    Raises:
        EvaluationError: an unknown task.
    """
    count = min(suite.calibration_limit, limit or suite.calibration_limit)
    read = read_questions(tuple(suite.calibration.values()), out / "media", count)
    shown = {task: asked[:count] for task, asked in read.by_task.items()}
    files, digest = {}, hashlib.sha256()
    for model, task in suite.calibration.items():
        files[model] = out / FOLDER / f"{file_name(model)}.jsonl"
        lines = [json.dumps(_line(one, out / FOLDER)) for one in shown[task]]
        content = "".join(f"{line}\n" for line in lines).encode()
        write_atomically(files[model], content)
        digest.update(f"{model}\n".encode() + content)
    counts = {model: len(shown[task]) for model, task in suite.calibration.items()}
    found = Calibration(files=files, num_questions=counts, digest=digest.hexdigest())
    return found, Questions(by_task=shown)


def _line(asked: Asked, folder: Path) -> dict[str, object]:
    """As `omnicompose.statistics.prompts` reads it; pictures by their path from the file."""
    assert asked.answer is not None, "benchmarks know the answers"
    content = [
        part
        if isinstance(part, str)
        else {"type": part.modality, "path": os.path.relpath(part.path, folder)}
        for part in asked.content
    ]
    reply = asked.openings[asked.answer] if asked.openings else LETTERS[asked.answer]
    return {"content": content, "reply": reply}


def refuse_leaks(test: Questions, chosen: Mapping[str, Questions]) -> None:
    """Refuse questions for choosing coefficients that show what rows are ranked by.

    Args:
        test: what rows are ranked by.
        chosen: what coefficients are chosen on, by key of the suite.

    Raises:
        EvaluationError: a picture, sound or clip is in both.
    """
    ranked = {medium for medium, _ in _media(test)}
    for key, questions in chosen.items():
        for medium, task in _media(questions):
            if medium in ranked:
                raise EvaluationError(
                    f"{key}: {task} shows a medium that the ranking asks about too (sha256 "
                    f"{medium[:16]}). Choose coefficients on media that nothing is ranked by."
                )


def _media(questions: Questions) -> Iterable[tuple[str, str]]:
    for task, asked in questions.by_task.items():
        for one in asked:
            for part in one.content:
                if isinstance(part, Medium) and part.sha256:
                    yield part.sha256, task
