"""Merges in one go through memory: stored operands in, stored results out, by compiled loops.

What a merge's values are is said by its method in torch; `FusedMethod` gives loops that come to the
very same bits. They are used where every operand is read as it is written, on a CPU, and where
there is enough to do to be worth the compiler.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch

from omnicompose.merging.job import Job, Merge, TensorRef
from omnicompose.merging.options import EngineOptions
from omnicompose.merging.tile_loop import FusedMethod, Stored
from omnicompose.merging.workspace import Workspace

STORED_DTYPES = {
    torch.bfloat16: torch.uint16,
    torch.float16: torch.int16,
    torch.float32: torch.float32,
}
"""Dtypes that the loops read and write, and what they see them as."""
TILE_ELEMENTS = 1 << 18
"""Of each operand, where it is only looked at: they stay in the cache while that is done."""
LEAST_BYTES = 1 << 29
"""With less to write, importing the compiler takes longer than its loops save."""


def worthwhile(jobs: Sequence[Job], options: EngineOptions) -> bool:
    """Whether compiled loops may be used in this run, and pay."""
    if options.allow_nonfinite or torch.device(options.device).type != "cpu":
        return False
    if options.fuse is not None:
        return options.fuse
    sizes = (job.output.num_bytes for job in jobs if fused_method(job) is not None)
    return sum(sizes) >= LEAST_BYTES


def fused_method(job: Job) -> FusedMethod | None:
    """The method of a job whose operands all lie as they will be written, if it has loops.

    It must also be sure to carry NaN and infinities on: the loops look at results alone.
    """
    if not isinstance(job, Merge) or job.use_factors or job.measures:
        return None
    # Asking a protocol with isinstance takes longer than merging a small tensor.
    if getattr(job.method, "tile_loop", None) is None:
        return None
    method: FusedMethod = job.method  # type: ignore[assignment]  # it has a loop
    dtype = job.output.dtype
    stored = dtype in STORED_DTYPES and all(
        isinstance(operand, TensorRef) and operand.info.dtype == dtype for operand in operands(job)
    )
    return method if stored and method.carries(job.weights, job.parameters) else None


def operands(merge: Merge) -> tuple[TensorRef, ...]:
    """The base, where the method takes one, and the experts."""
    based = merge.method.spec.needs_base and merge.base is not None
    every = (merge.base, *merge.experts) if based else merge.experts
    return tuple(operand for operand in every if isinstance(operand, TensorRef))


def stored_of(merge: Merge) -> Stored:
    """What a method's loop is told of a merge."""
    return Stored(
        name=merge.key or merge.output.name,
        expert_names=merge.expert_names,
        weights=merge.weights,
    )


class StoredTiles:
    """Tiles of a merge as numpy arrays of stored numbers, in the buffers of one thread."""

    def __init__(self, workspace: Workspace, tile_elements: int) -> None:
        """Read into `workspace`, at most `tile_elements` of each operand at a time."""
        self._workspace = workspace
        self._tile_elements = min(tile_elements, TILE_ELEMENTS)

    def read(
        self, merge: Merge, tiles: Sequence[tuple[int, int]]
    ) -> Iterator[tuple[int, np.ndarray]]:
        """First element and `[operand, element]` of every tile, given by first and number."""
        refs = operands(merge)
        largest = max((count for _, count in tiles), default=0)
        buffer = self._workspace.take(merge.output.dtype, len(refs) * largest, on_host=True)
        places = [(ref.source, ref.name, ref.start) for ref in refs]
        for position, size in tiles:
            tile = buffer[: len(refs) * size].view(len(refs), size)
            for row, (source, name, first) in zip(tile.unbind(), places, strict=True):
                source.read_into(name, first + position, row)
            yield position, as_stored(tile)

    def walk(
        self, merge: Merge, stretches: Sequence[tuple[int, int]]
    ) -> Iterator[tuple[int, np.ndarray]]:
        """First element and `[operand, element]` of every tile of some stretches, in order.

        Several stretches that fit into one tile are given as one: a sample is counted at once.
        """
        total = sum(count for _, count in stretches)
        if len(stretches) > 1 and total <= self._tile_elements:
            self._workspace.reset()
            yield stretches[0][0], self._gathered(merge, stretches, total)
            return
        for start, count in stretches:
            self._workspace.reset()
            bounds = (*range(start, start + count, self._tile_elements), start + count)
            yield from self.read(merge, [(a, b - a) for a, b in pairwise(bounds)])

    def _gathered(
        self, merge: Merge, stretches: Sequence[tuple[int, int]], total: int
    ) -> np.ndarray:
        refs = operands(merge)
        tile = self._workspace.take(merge.output.dtype, len(refs) * total, on_host=True)
        tile = tile.view(len(refs), total)
        for row, ref in zip(tile.unbind(), refs, strict=True):
            filled = 0
            for start, count in stretches:
                ref.source.read_into(ref.name, ref.start + start, row[filled : filled + count])
                filled += count
        return as_stored(tile)


def as_stored(tensor: torch.Tensor) -> np.ndarray:
    """The numbers of a tensor on the CPU as the loops see them, without a copy."""
    return tensor.view(STORED_DTYPES[tensor.dtype]).numpy()
