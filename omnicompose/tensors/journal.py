"""The journal of an unfinished folder: what its plan computes, and how far its files are written.

One JSON object per line. The first line holds the hash of every tensor's job; a mark says that the
first so many tensors of a file are complete and what the file's bytes up to there hash to; other
lines keep what was measured while a tensor was computed. A line that a kill cut short counts for
nothing.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

from omnicompose.errors import MergeError

JOURNAL_NAME = "journal.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """How far a file is written.

    Attributes:
        file: its name.
        num_tensors: the first so many of its tensors are complete.
        sha256: of its bytes from the start to the end of those tensors (hexadecimal).
    """

    file: str
    num_tensors: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Entries:
    """What a journal says.

    Attributes:
        jobs: hash of every job by output tensor.
        marks: in the order in which they were made.
        measures: what was measured, by tensor.
    """

    jobs: Mapping[str, str]
    marks: tuple[Mark, ...] = ()
    measures: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


class Journal:
    """An open journal; every line reaches the kernel before `add` returns."""

    def __init__(self, path: Path, entries: Entries) -> None:
        """Write a journal anew with some entries, complete before it has its name.

        Raises:
            OSError: it cannot be written.
        """
        fresh = path.with_name(f"{path.name}.new")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
        self._descriptor, self._torn = os.open(fresh, flags, 0o644), False
        self._write({"jobs": dict(entries.jobs)})
        for tensor, measures in entries.measures.items():
            self.add_measures(tensor, measures)
        for mark in entries.marks:
            self.add(mark)
        fresh.rename(path)

    def add(self, mark: Mark) -> None:
        """Append a mark.

        Raises:
            OSError: the line cannot be written.
        """
        self._write({"file": mark.file, "tensors": mark.num_tensors, "sha256": mark.sha256})

    def add_measures(self, tensor: str, measures: Mapping[str, float]) -> None:
        """Append what was measured while a tensor was computed.

        Raises:
            OSError: the line cannot be written.
        """
        self._write({"tensor": tensor, "measures": dict(measures)})

    def _write(self, fields: Mapping[str, object]) -> None:
        # A line that was cut short before must not be glued to this one.
        line = b"\n" * self._torn + json.dumps(fields).encode() + b"\n"
        self._torn = True
        if os.write(self._descriptor, line) < len(line):
            raise OSError("the journal's line was cut short")
        self._torn = False

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def read_journal(folder: Path) -> Entries | None:
    """What the journal of an interrupted run says, up to the first line that is none of ours.

    None if there is none, or nothing in it can be used.
    """
    try:
        lines = (folder / JOURNAL_NAME).read_bytes().split(b"\n")
    except (FileNotFoundError, IsADirectoryError):
        return None
    # What follows the last line break was cut short by a kill.
    first, *rest = (_fields(line) for line in (lines[:-1] or [b""]))
    jobs = first.get("jobs")
    if not isinstance(jobs, dict):
        return None
    known = list(takewhile(bool, rest))
    marks = (mark for fields in known if (mark := _mark(fields)) is not None)
    measures: dict[str, Mapping[str, float]] = {}
    for fields in known:
        found = fields.get("measures")
        if isinstance(found, dict):
            measures[str(fields.get("tensor"))] = found
    return Entries(jobs=jobs, marks=tuple(marks), measures=measures)


def put_aside(folder: Path) -> Path:
    """Move the journal of a folder beside it: the folder holds nothing else that is not to stay.

    Returns:
        Where the journal is now.

    Raises:
        OSError: it cannot be moved.
    """
    aside = _aside(folder)
    (folder / JOURNAL_NAME).rename(aside)
    return aside


def take_back(folder: Path) -> None:
    """Undo `put_aside`, where a run got no further than that; else drop what it left.

    Raises:
        OSError: it cannot be moved.
    """
    aside = _aside(folder)
    if not aside.exists():
        return
    if folder.is_dir() and not (folder / JOURNAL_NAME).exists():
        aside.rename(folder / JOURNAL_NAME)
    else:
        aside.unlink()


def _aside(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.{JOURNAL_NAME}")


def _fields(line: bytes) -> dict[str, object]:
    """What a line says; nothing if it is none of ours."""
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}


def _mark(fields: Mapping[str, object]) -> Mark | None:
    file, num_tensors, sha256 = (fields.get(key) for key in ("file", "tensors", "sha256"))
    if not (isinstance(file, str) and isinstance(num_tensors, int) and isinstance(sha256, str)):
        return None
    return Mark(file=file, num_tensors=num_tensors, sha256=sha256) if num_tensors > 0 else None


def check_same_plan(folder: Path, begun: Mapping[str, str], jobs: Mapping[str, str]) -> None:
    """Refuse to go on with a folder that another plan began.

    Args:
        folder: the partial folder.
        begun: hash of every job of the plan that began it, by output tensor.
        jobs: the same of the present plan.

    Raises:
        MergeError: the plans differ.
    """
    for tensor in (*begun, *jobs):
        if begun.get(tensor) != jobs.get(tensor):
            change = "is computed otherwise now"
            change = "is not in this plan" if tensor not in jobs else change
            change = "is new in this plan" if tensor not in begun else change
            raise MergeError(
                f"{folder}: begun by another plan: tensor '{tensor}' {change}; expected the same "
                "recipe, inputs and options. Start without --resume."
            )
