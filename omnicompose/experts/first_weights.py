"""Do two checkpoints' weights have anything in common? Some stretches of them, with numpy alone.

For the first look: torch takes longer to import than this takes. What cannot be read here is left
to the second look, which says what is wrong with it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from omnicompose.errors import SourceError
from omnicompose.families import VOCABULARY_ROLES, Family, role_of

NUM_TENSORS = 8
SAMPLE_SIZE = 1024
LENGTH_BYTES = 8
DTYPES: Mapping[str, np.dtype[np.generic]] = {
    "BF16": np.dtype("<u2"),
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
}
"""Of safetensors; bf16 as bit patterns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """Where a matrix lies on disk: file, first byte, dtype as safetensors call it, shape."""

    path: Path
    offset: int
    dtype: str
    shape: tuple[int, ...]

    def sample(self) -> np.ndarray:
        """At most `SAMPLE_SIZE` elements from its middle, fp64."""
        dtype, size = DTYPES[self.dtype], prod(self.shape)
        count = min(SAMPLE_SIZE, size)
        with self.path.open("rb") as file:
            file.seek(self.offset + (size - count) // 2 * dtype.itemsize)
            numbers: np.ndarray = np.frombuffer(file.read(count * dtype.itemsize), dtype)
        if self.dtype == "BF16":
            numbers = (numbers.astype(np.uint32) << 16).view(np.float32)
        return np.asarray(numbers, np.float64)


def first_cosine(
    base: tuple[Path, Family], expert: tuple[Path, Family]
) -> tuple[float, float] | None:
    """Cosine and relative distance of sampled backbone matrices, or None if they cannot be read.

    Args:
        base: folder and family of the base.
        expert: folder and family of the expert.
    """
    try:
        ours, theirs = _matrices(*base), _matrices(*expert)
        shared = [n for n in ours if n in theirs and ours[n].shape == theirs[n].shape]
        chosen = shared[:: max(1, len(shared) // NUM_TENSORS)]
        first = np.concatenate([ours[name].sample() for name in chosen])
        second = np.concatenate([theirs[name].sample() for name in chosen])
    except (OSError, ValueError, KeyError, TypeError, SourceError):
        return None
    norms = float(np.linalg.norm(first)), float(np.linalg.norm(second))
    if first.shape != second.shape or not all(norms):
        return None
    distance = float(np.linalg.norm(second - first)) / norms[0]
    return float(first @ second) / (norms[0] * norms[1]), distance


def _matrices(folder: Path, family: Family) -> Mapping[str, Stored]:
    """The matrices of a backbone's blocks, by their names in the backbone."""
    stored: dict[str, Stored] = {}
    for path in sorted(folder.glob("*.safetensors")):
        stored |= _entries(path)
    located = family.locate(list(stored))
    return {
        part.name: stored[name]
        for name, part in located.items()
        if part.part == "backbone"
        and len(stored[name].shape) == 2
        and stored[name].dtype in DTYPES
        and role_of(part.name) not in VOCABULARY_ROLES
    }


def _entries(path: Path) -> dict[str, Stored]:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(LENGTH_BYTES), "little")
        if length > path.stat().st_size:
            raise ValueError("the header is longer than the file")
        header = json.loads(file.read(length))
    if not isinstance(header, dict):
        raise ValueError("the header is no object")
    return {
        name: Stored(
            path=path,
            offset=LENGTH_BYTES + length + entry["data_offsets"][0],
            dtype=entry["dtype"],
            shape=tuple(entry["shape"]),
        )
        for name, entry in header.items()
        if name != "__metadata__"
    }
