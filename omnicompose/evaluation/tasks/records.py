"""Annotation files of benchmarks, read strictly: every mistake names file, record and field."""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from omnicompose.errors import EvaluationError


@dataclass(frozen=True, slots=True)
class Record:
    """One entry of an annotation file.

    Attributes:
        where: the file and which entry of it.
        values: the entry itself.
    """

    where: str
    values: Mapping[str, object]

    def text(self, name: str) -> str:
        """A field that holds text."""
        value = self.values.get(name)
        return value if isinstance(value, str) else self._refuse(name, value, "text")

    def name(self, name: str) -> str:
        """A field that names something: text, or a whole number."""
        value = self.values.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        return value if isinstance(value, str) else self._refuse(name, value, "text or a number")

    def number(self, name: str) -> int:
        """A field that holds a whole number, written as one or as text."""
        value = self.values.get(name)
        if isinstance(value, str) and value.strip().isdecimal():
            return int(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        return int(self._refuse(name, value, "a whole number"))

    def texts(self, name: str) -> tuple[str, ...]:
        """A field that holds a list of texts, or that list written as JSON."""
        value = self.values.get(name)
        if isinstance(value, str):
            value = _from_json(value)
        if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
            self._refuse(name, value, "a list of texts")
        return tuple(value)  # type: ignore[arg-type]

    def records(self, name: str) -> list["Record"]:
        """A field that holds a list of entries."""
        value = self.values.get(name)
        if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
            self._refuse(name, value, "a list of entries")
            return []
        return [Record(f"{self.where}, {name} {i}", entry) for i, entry in enumerate(value)]

    def record(self, name: str) -> "Record":
        """A field that holds one entry."""
        value = self.values.get(name)
        if not isinstance(value, dict):
            self._refuse(name, value, "an entry with fields")
            return self
        return Record(f"{self.where}, {name}", value)

    def one_of(self, name: str, known: tuple[str, ...]) -> int:
        """The place among `known` of what a field holds."""
        value = self.text(name)
        if value not in known:
            self._refuse(name, value, f"one of {', '.join(known)}")
        return known.index(value)

    def _refuse(self, name: str, value: object, expected: str) -> str:
        found = "nothing" if value is None else repr(value)[:60]
        raise EvaluationError(
            f"{self.where}: {name}: found {found}, expected {expected}. "
            "Get the file again from the place that `omnicompose evaluate --tasks list` names."
        )


def json_list(path: Path) -> list[Record]:
    """The entries of a file that holds one JSON list."""
    values = _load(path)
    if not isinstance(values, list):
        raise EvaluationError(f"{path}: found no JSON list, expected one entry per question.")
    return [_entry(f"{path}: entry {i}", value) for i, value in enumerate(values)]


def json_table(path: Path) -> list[tuple[str, Record]]:
    """Names and entries of a file that holds one JSON object of entries."""
    values = _load(path)
    if not isinstance(values, dict):
        raise EvaluationError(f"{path}: found no JSON object, expected one entry per clip.")
    return [(name, _entry(f"{path}: {name}", value)) for name, value in values.items()]


def json_lines(path: Path) -> Iterator[Record]:
    """The entries of a file with one JSON object a line."""
    for number, line in enumerate(io.StringIO(_read(path)), start=1):
        if line.strip():
            yield _entry(f"{path}:{number}", _from_json(line))


def csv_rows(path: Path) -> Iterator[Record]:
    """The rows of a comma-separated file with a header."""
    rows = csv.DictReader(io.StringIO(_read(path), newline=""))
    for number, row in enumerate(rows, start=2):
        yield Record(f"{path}:{number}", {k: v for k, v in row.items() if k is not None})


def _entry(where: str, value: object) -> Record:
    if not isinstance(value, dict):
        raise EvaluationError(f"{where}: found no JSON object, expected an entry with fields.")
    return Record(where, value)


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as err:
        raise EvaluationError(
            f"{path}: found bytes that are no UTF-8 ({err.reason} at byte {err.start}), expected "
            "text. Get the file again."
        ) from err


def _load(path: Path) -> object:
    try:
        return json.loads(_read(path))
    except ValueError as err:
        raise EvaluationError(
            f"{path}: found no JSON ({err}), expected the benchmark's annotations. "
            "Get the file again."
        ) from err


def _from_json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return None
