"""The capability zoo's held-out pictures with their questions: one zip that ships.

Nothing here needs the packages that drew them.
"""

import io
import json
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from omnicompose.errors import MediaError
from omnicompose.zoo.capabilities.questions import Question
from omnicompose.zoo.capabilities.world import Split

LIBRARY_PATH = Path(__file__).parents[1] / "assets" / "capability-media" / "held-out.zip"
INDEX_NAME = "index.json"
_OLDEST_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One picture and what one task asks about it.

    Attributes:
        split: `validation` or `test`.
        task: one of `questions.TASKS`.
        name: of the picture, unique in its library.
        questions: about it.
        data: the picture as PNG.
    """

    split: Split
    task: str
    name: str
    questions: tuple[Question, ...]
    data: bytes


@cache
def read_library(path: Path = LIBRARY_PATH) -> tuple[Asked, ...]:
    """The pictures packed at `path`, by default those that ship.

    Raises:
        MediaError: the file is missing or is not a packed library.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            index = json.loads(archive.read(INDEX_NAME))
            return tuple(_read(archive, entry) for entry in index)
    except (OSError, zipfile.BadZipFile, ValueError, KeyError, TypeError) as error:
        raise MediaError(
            f"{path}: not the capability zoo's pictures ({type(error).__name__}: {error}). "
            f"Expected a zip with {INDEX_NAME}. Reinstall the package, or run "
            "`python -m omnicompose.zoo.capabilities.train`."
        ) from error


def write_library(path: Path, asked: Iterable[Asked]) -> None:
    """Pack pictures into one file; the same pictures give the same bytes."""
    kept = tuple(asked)
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        index = json.dumps([_entry(one) for one in kept], separators=(",", ":")).encode()
        _add(archive, INDEX_NAME, index, zipfile.ZIP_DEFLATED)
        for name, data in {one.name: one.data for one in kept}.items():
            _add(archive, name, data, zipfile.ZIP_STORED)


def _entry(one: Asked) -> dict[str, object]:
    questions = [[q.text, list(q.choices), q.answer] for q in one.questions]
    return {"split": one.split, "task": one.task, "name": one.name, "questions": questions}


def _read(archive: zipfile.ZipFile, entry: dict[str, object]) -> Asked:
    questions = entry["questions"]
    assert isinstance(questions, list)
    name = str(entry["name"])
    split: Split = "validation" if entry["split"] == "validation" else "test"
    return Asked(
        split=split,
        task=str(entry["task"]),
        name=name,
        questions=tuple(
            Question(text=text, choices=tuple(choices), answer=answer)
            for text, choices, answer in questions
        ),
        data=archive.read(name),
    )


def _add(archive: zipfile.ZipFile, name: str, data: bytes, how: int) -> None:
    entry = zipfile.ZipInfo(name, _OLDEST_DATE)
    entry.compress_type = how
    with archive.open(entry, "w") as file:
        file.write(io.BytesIO(data).getvalue())
