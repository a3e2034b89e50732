"""Rows about consecutive blocks that say the same, joined: `layers.0-31.mlp.up_proj.weight`."""

import re
from collections.abc import Iterable, Sequence

BLOCK = re.compile(r"(?<=\.)\d+(?=\.)")
"""The index of a block in a tensor's name; the first one counts."""

Row = tuple[str, ...]


def join_blocks(rows: Sequence[Row]) -> list[Row]:
    """Rows that differ in the number of a block alone become one, at the place of the first.

    Args:
        rows: cells; the first is a tensor's name, the others may hold names of the same block.
    """
    alike: dict[Row, list[int]] = {}
    for row in rows:
        found = BLOCK.search(row[0])
        # Without a block the row stands for itself.
        numbers = alike.setdefault(_without(row, found[0]) if found else row, [])
        if found:
            numbers.append(int(found[0]))
    return [
        tuple(cell.replace("\0", _ranges(numbers)) for cell in row)
        for row, numbers in alike.items()
    ]


def _without(row: Row, block: str) -> Row:
    """The row with a mark in place of the block, once in every line of every cell."""

    def marked(line: str) -> str:
        found = BLOCK.search(line)
        if found is None or found[0] != block:
            return line
        return f"{line[: found.start()]}\0{line[found.end() :]}"

    return tuple("\n".join(map(marked, cell.split("\n"))) for cell in row)


def _ranges(numbers: Iterable[int]) -> str:
    """`0-3,5` for 0, 1, 2, 3, 5."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ",".join("-".join(map(str, run)) for run in runs)
