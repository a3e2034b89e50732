"""The journal of an unfinished folder: which tensors are complete, and the checksum of their bytes.

One JSON object per line. The first line names the plan; each further line one finished tensor,
appended after its bytes were handed to the kernel. A checksum finds bytes that a power cut lost;
the finished files have sha256 hashes besides. A line that a kill cut short counts for nothing.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from omnicompose.errors import MergeError

JOURNAL_NAME = "journal.jsonl"
FORMAT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One finished tensor.

    Attributes:
        job: hash of what was to be computed.
        crc32: of the bytes written.
        measures: facts that were found while it was computed.
    """

    job: str
    crc32: int
    measures: Mapping[str, float] = field(default_factory=dict)


class Journal:
    """An open journal; every line reaches the kernel before `add` returns."""

    def __init__(self, path: Path) -> None:
        """Open for appending; the file is made if there is none."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._descriptor = os.open(path, flags, 0o644)

    def add(self, tensor: str, record: Record) -> None:
        """Append a finished tensor.

        Raises:
            OSError: the line cannot be written.
        """
        fields = {"tensor": tensor, "job": record.job, "crc32": record.crc32}
        measures = {"measures": record.measures} if record.measures else {}
        self._write(fields | measures)

    def _write(self, fields: Mapping[str, object]) -> None:
        line = json.dumps(fields).encode() + b"\n"
        if os.write(self._descriptor, line) < len(line):
            raise OSError("the journal's line was cut short")

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def start_journal(folder: Path) -> Journal:
    """Begin a journal with its first line.

    Raises:
        OSError: it cannot be written.
    """
    journal = Journal(folder / JOURNAL_NAME)
    journal._write({"format": FORMAT})
    return journal


def read_journal(folder: Path) -> Mapping[str, Record]:
    """The finished tensors of an interrupted run; torn and foreign lines are left out."""
    records: dict[str, Record] = {}
    try:
        lines = (folder / JOURNAL_NAME).read_bytes().split(b"\n")
    except FileNotFoundError:
        return records
    # What follows the last line break was cut short by a kill.
    for line in lines[1:-1]:
        fields = json.loads(line)
        measures = fields.get("measures", {})
        records[fields["tensor"]] = Record(
            job=fields["job"], crc32=fields["crc32"], measures=measures
        )
    return records


def continue_journal(folder: Path, records: Mapping[str, Record]) -> Journal:
    """Write the journal anew with the tensors that were found intact, and open it.

    Raises:
        OSError: it cannot be written.
    """
    fresh = folder / (JOURNAL_NAME + ".new")
    fresh.unlink(missing_ok=True)
    journal = Journal(fresh)
    journal._write({"format": FORMAT})
    for tensor, record in records.items():
        journal.add(tensor, record)
    fresh.rename(folder / JOURNAL_NAME)
    return journal


def check_same_plan(folder: Path, records: Mapping[str, Record], jobs: Mapping[str, str]) -> None:
    """Refuse to go on with a folder that another plan began.

    Args:
        folder: the partial folder.
        records: its finished tensors.
        jobs: hash of every job of the present plan, by output tensor.

    Raises:
        MergeError: a finished tensor is not of this plan.
    """
    for tensor, record in records.items():
        if jobs.get(tensor) != record.job:
            change = "is not in this plan" if tensor not in jobs else "is computed otherwise now"
            raise MergeError(
                f"{folder}: tensor '{tensor}': finished by the interrupted run, but it {change}; "
                "expected the same recipe, inputs and options. Start without --resume."
            )
