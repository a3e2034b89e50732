"""The log of a search: every candidate with its value, one JSON line each, written at once.

A search is a strategy that is deterministic under its seed. To go on after a kill it is asked
again, and is told the logged values in place of new ones; nothing is kept but this log.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from omnicompose.errors import TuningError

Point = tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """A candidate and what it is worth; less is better."""

    point: Point
    value: float
    seconds: float


class Trail:
    """The candidates of one search, in the order in which they were tried."""

    def __init__(self, path: Path, asked: Mapping[str, object]) -> None:
        """Open the log of this search, or begin it.

        Raises:
            TuningError: the file is the log of another search.
        """
        self._path = path
        head = json.dumps({"asked": asked}, sort_keys=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = _whole_lines(path)
        if lines and lines[0] != head:
            raise TuningError(
                f"{path}: found the log of another search (other models, data or settings). "
                "Remove it, or merge to another --out."
            )
        fresh = path.with_name(f".{path.name}.partial")
        fresh.write_text("".join(f"{line}\n" for line in lines or [head]), encoding="utf-8")
        fresh.replace(path)  # a kill in between loses nothing
        self.tried = [_read(line) for line in lines[1:]]

    def add(self, point: Point, value: float, seconds: float) -> None:
        """Note a candidate before anything else happens.

        Raises:
            TuningError: the value is no number.
        """
        if not math.isfinite(value):
            raise TuningError(
                f"candidate {len(self.tried) + 1} at {list(point)}: found the fitness {value}, "
                f"expected a finite number. The {len(self.tried)} candidates before it are in "
                f"{self._path}; mend the fitness and run the same command to go on."
            )
        self.tried.append(Tried(point=point, value=value, seconds=seconds))
        line = json.dumps({"point": point, "value": value, "seconds": round(seconds, 4)})
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def known(self, number: int, point: Sequence[float]) -> float | None:
        """The value of candidate `number` if it was tried before.

        Raises:
            TuningError: another candidate has that number.
        """
        if number >= len(self.tried):
            return None
        if tuple(point) != self.tried[number].point:
            raise TuningError(
                f"{self._path}: candidate {number + 1} is {list(self.tried[number].point)}, and "
                f"the search now asks for {list(point)}: its library or seed has changed. Remove "
                "the log to begin anew."
            )
        return self.tried[number].value


def _whole_lines(path: Path) -> list[str]:
    """What was written whole: a kill may have cut the last line."""
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8")
    return text[: text.rfind("\n") + 1].splitlines()


def _read(line: str) -> Tried:
    found = json.loads(line)
    return Tried(point=tuple(found["point"]), value=found["value"], seconds=found["seconds"])
