"""Questions to look at: the media themselves, what was asked, and what was answered with what."""

import base64
import mimetypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from omnicompose.evaluation.line import Line, MediumRecord
from omnicompose.evaluation.sample import LETTERS

MAX_MEDIUM_BYTES = 4 << 20
TINY_BYTES = 8 << 10
MIME_TYPES = {".flac": "audio/flac", ".mp4": "video/mp4", ".wav": "audio/wav"}
"""Where the machine's own table is silent or says it otherwise than browsers do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownMedium:
    """A medium inside the page.

    Attributes:
        modality: how to show it.
        uri: a data URI; None if it is gone or too large to embed.
        name: its file.
        is_tiny: so few pixels that they may be seen as such when enlarged.
    """

    modality: str
    uri: str | None
    name: str
    is_tiny: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What was answered with one subset.

    Attributes:
        subset: modalities given.
        answer: the letter, or the reply where none could be read.
        is_right: whether that is right.
    """

    subset: str
    answer: str
    is_right: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One question in all the ways that it was asked.

    Attributes:
        id: of the question.
        media: everything that it shows.
        question: its text, options included.
        target: right letter and option.
        answers: by subset, in the order of the table.
    """

    id: str
    media: tuple[ShownMedium, ...]
    question: str
    target: str
    answers: tuple[Given, ...]


def make_examples(
    ids: Sequence[str], cells: Mapping[str, Mapping[str, Line]], group: str, folder: Path
) -> list[Example]:
    """The questions of these ids.

    Args:
        ids: which.
        cells: subset to id to line, of one set of modalities and one kind of score.
        group: the full subset.
        folder: the results folder, to which the lines' media are relative.
    """
    return [_example(i, cells, group, folder) for i in ids]


def _example(i: str, cells: Mapping[str, Mapping[str, Line]], group: str, folder: Path) -> Example:
    full = cells[group][i]
    return Example(
        id=i,
        media=tuple(show(medium, folder) for medium in full.media),
        question=full.question,
        target=f"{full.target}. {full.choices[LETTERS.index(full.target)]}",
        answers=tuple(
            _given(subset, lines[i])
            for subset, lines in cells.items()
            if i in lines and lines[i].correct is not None
        ),
    )


def _given(subset: str, line: Line) -> Given:
    unread = f"unreadable: {(line.reply or '')[:60]!r}"
    return Given(subset=subset, answer=line.answer or unread, is_right=line.correct == 1)


def show(medium: MediumRecord, folder: Path) -> ShownMedium:
    """Embed a medium's file."""
    path = folder / medium.uri
    size = path.stat().st_size if path.is_file() else None
    uri = None
    if size is not None and size <= MAX_MEDIUM_BYTES:
        mime = MIME_TYPES.get(path.suffix.lower()) or mimetypes.guess_type(path.name)[0]
        data = base64.b64encode(path.read_bytes()).decode("ascii")
        uri = f"data:{mime or 'application/octet-stream'};base64,{data}"
    return ShownMedium(
        modality=medium.modality,
        uri=uri,
        name=path.name,
        is_tiny=size is not None and size <= TINY_BYTES,
    )
