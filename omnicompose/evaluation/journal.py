"""The journal: each worker appends finished lines to a file of its own; anyone may go on from it.

A line counts once its newline is on disk. What a killed worker left behind it is cut off by the
next worker of that rank and ignored by all others.
"""

import fcntl
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pydantic import ValidationError

from omnicompose.errors import EvaluationError
from omnicompose.evaluation.line import Line


class Journal:
    """An open journal file of one worker."""

    def __init__(self, file: BinaryIO) -> None:
        """Wrap a file opened by `open_journal`."""
        self._file = file

    def append(self, lines: Iterable[Line]) -> None:
        """Write lines so that they survive the end of this process and of the machine."""
        self._file.write(b"".join(_to_bytes(line) for line in lines))
        self._file.flush()
        os.fsync(self._file.fileno())


@contextmanager
def open_journal(path: Path) -> Iterator[Journal]:
    """Open a journal for appending, behind its last complete line.

    Raises:
        EvaluationError: another process is writing it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        lock(
            file,
            f"{path}: another process is writing this journal; wait for it, "
            "give each worker its own rank, or choose another --out.",
        )
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
        yield Journal(file)


def lock(file: BinaryIO, refusal: str) -> None:
    """Hold a file against other processes until it is closed.

    Raises:
        EvaluationError: another process holds it; says `refusal`.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as err:
        raise EvaluationError(refusal) from err


def file_name(task: str) -> str:
    """A task's name as part of a file's name."""
    return task.replace("/", "_")


def discard(out_dir: Path, tasks: Iterable[str]) -> None:
    """Forget everything that was answered for these tasks; media stay.

    Raises:
        EvaluationError: another process is writing one of the journals.
    """
    for task in tasks:
        name = file_name(task)
        for path in sorted((out_dir / "journal").glob(f"{name}.rank*.jsonl")):
            with open_journal(path):
                path.unlink()
        (out_dir / f"samples_{name}.jsonl").unlink(missing_ok=True)


def read_lines(path: Path) -> list[Line]:
    """Every complete line of a journal or of a merged file, in file order.

    Raises:
        EvaluationError: a complete line is not one of ours.
    """
    complete = path.read_bytes()
    complete = complete[: complete.rfind(b"\n") + 1]
    lines = []
    for number, text in enumerate(complete.splitlines(), start=1):
        try:
            lines.append(Line.model_validate_json(text))
        except ValidationError as err:
            problem = err.errors()[0]
            where = ".".join(str(part) for part in problem["loc"]) or "the line"
            raise EvaluationError(
                f"{path}:{number}: {where}: {problem['msg']}; expected a line written by this "
                "version of omnicompose. Restore the file, or evaluate into a new --out."
            ) from err
    return lines


def best_lines(lines: Iterable[Line]) -> dict[str, Line]:
    """One line per key: an answer rather than an error, the first of its kind."""
    best: dict[str, Line] = {}
    for line in lines:
        held = best.get(line.key)
        if held is None or (held.error is not None and line.error is None):
            best[line.key] = line
    return best


def write_merged(path: Path, lines: Sequence[Line]) -> None:
    """Write lines sorted by id, at once or not at all."""
    ordered = sorted(lines, key=lambda line: line.order)
    write_atomically(path, b"".join(_to_bytes(line) for line in ordered))


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file's content so that no reader ever sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(data)
    partial.replace(path)


def _to_bytes(line: Line) -> bytes:
    return line.model_dump_json(exclude_none=True).encode() + b"\n"
