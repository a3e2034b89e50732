"""One finished output tensor: computed or copied tile by tile, rounded once, written."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import torch

from omnicompose.errors import MergeError
from omnicompose.merging.batches import Batch
from omnicompose.merging.cost import bytes_written
from omnicompose.merging.evaluation import Evaluator
from omnicompose.merging.finite import all_finite, check_rounding, refuse_nonfinite
from omnicompose.merging.fused import StoredTiles, as_stored
from omnicompose.merging.job import Copy, Job, Merge, needs_whole
from omnicompose.merging.joint import as_one, runs
from omnicompose.merging.options import EngineOptions
from omnicompose.merging.parallel import Stopped
from omnicompose.merging.statistics import Statistics
from omnicompose.merging.tile_loop import TileLoop
from omnicompose.merging.workspace import Workspace
from omnicompose.tensors.digest import FollowingDigest
from omnicompose.tensors.pieces import PIECE_BYTES, cuts
from omnicompose.tensors.writer import OutputFolder, Place

NARROW_DTYPES = frozenset(
    {torch.float16, torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e8m0fnu}
)
"""Dtypes whose range a finite fp32 result may well exceed."""
FUSED_TILES = 4
"""A compiled loop holds nothing in fp32: so many of its tiles take the memory of one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Some elements of one output tensor: `start .. start + count`."""

    job: Job
    place: Place
    start: int
    count: int

    def tiles(self, most: int) -> Sequence[tuple[int, int]]:
        """First element and number of each tile, of so many elements at most."""
        itemsize = self.job.output.dtype.itemsize
        offset = self.place.offset + self.start * itemsize
        found = cuts(offset, self.count, itemsize, min(most, PIECE_BYTES // itemsize))
        return [(self.start + first, count) for first, count in found]


def whole(job: Job, place: Place) -> Stretch:
    """All elements of a tensor."""
    return Stretch(job=job, place=place, start=0, count=job.output.num_elements)


def _may_overflow(job: Job) -> bool:
    """Whether finite values may round to infinity: fp32 results, and whatever a copy casts."""
    if isinstance(job, Copy):
        return job.tensor.info.dtype != job.output.dtype
    return job.output.dtype in NARROW_DTYPES


class TensorWriter:
    """Writes tensors, one at a time, in the buffers of one thread."""

    def __init__(
        self,
        evaluator: Evaluator,
        folder: OutputFolder,
        digest: FollowingDigest,
        workspace: Workspace,
        stop: threading.Event,
        options: EngineOptions,
    ) -> None:
        """Compute with `evaluator`, whose buffers are those of `workspace`, until `stop` is set."""
        self._evaluator, self._folder, self._workspace = evaluator, folder, workspace
        self._digest, self._stop = digest, stop
        self._tile_elements = options.tile_elements
        self._allow_nonfinite = options.allow_nonfinite
        self._stored = StoredTiles(workspace, options.tile_elements)

    def write_batch(
        self, batch: Batch, places: Mapping[str, Place], known: Mapping[int, Statistics]
    ) -> Iterator[tuple[int, list[str]]]:
        """Write a batch, and note what was measured; bytes and tensors as they are done.

        Raises:
            MergeError: a result is not finite, or the disk refuses.
            SourceError: an input cannot be read.
        """
        if batch.count is not None:
            (job,) = batch.jobs
            place = places[job.output.name]
            self._write(Stretch(job=job, place=place, start=batch.start, count=batch.count), known)
            yield batch.count * job.output.dtype.itemsize, batch.names
            return
        for run in runs(batch.jobs, places):
            self._write_run(run, places, known)
            yield bytes_written(run), [job.output.name for job in run]

    def _write_run(
        self, run: Sequence[Job], places: Mapping[str, Place], known: Mapping[int, Statistics]
    ) -> None:
        """Write the tensors of jobs that may be computed as one."""
        if len(run) > 1:
            # What is refused in a long tensor is looked for once more, to name the short one.
            with suppress(MergeError):
                self._write(whole(as_one(run), places[run[0].output.name]), known)
                return
        for job in run:
            name = job.output.name
            self._folder.measured(name, self._write(whole(job, places[name]), known))

    def _write(self, stretch: Stretch, known: Mapping[int, Statistics]) -> Mapping[str, float]:
        """Write a stretch of a tensor; what was measured meanwhile."""
        job = stretch.job
        if not stretch.count:
            return {}
        if isinstance(job, Copy):
            self._copy(job, stretch)
            return {}
        self._evaluator.begin(job, known)
        loop = self._evaluator.loop(job)
        if loop is not None and isinstance(job, Merge):
            self._fuse(job, stretch, loop)
        else:
            self._evaluate(stretch)
        measures = dict(self._evaluator.measures)
        self._evaluator.end()
        return measures

    @contextmanager
    def _piece(self, stretch: Stretch, start: int, count: int) -> Iterator[torch.Tensor]:
        """Elements `start .. start + count` of the output: to be filled, written thereafter."""
        if self._stop.is_set():
            raise Stopped
        place, output = stretch.place, stretch.job.output
        offset = place.offset + start * output.dtype.itemsize
        with self._digest.piece(place.file, offset, output.dtype, count) as piece:
            yield piece.values
            if not self._allow_nonfinite and _may_overflow(stretch.job):
                check_rounding(piece.values, output, start)
            self._folder.write(piece)

    def _copy(self, job: Copy, stretch: Stretch) -> None:
        """Equal dtypes: the very bytes, a tile at a time."""
        info = job.tensor.info
        for start, count in stretch.tiles(self._tile_elements):
            with self._piece(stretch, start, count) as piece:
                self._workspace.reset()
                cast = info.dtype != job.output.dtype
                stored = self._workspace.take(info.dtype, count, on_host=True) if cast else piece
                job.tensor.source.read_into(job.tensor.name, job.tensor.start + start, stored)
                if not self._allow_nonfinite and info.dtype.is_floating_point:
                    self._check_copied(stored, job, start)
                if cast:
                    piece.copy_(stored)

    def _check_copied(self, stored: torch.Tensor, job: Copy, start: int) -> None:
        values = stored if stored.itemsize > 1 else stored.float()
        if not all_finite(values):
            where = job.tensor.source.byte_range(job.tensor.name)
            label = job.tensor.source.label if where is None else str(where.path)
            refuse_nonfinite(values, job.tensor.info, label, start)

    def _evaluate(self, stretch: Stretch) -> None:
        """Tile by tile, or from the whole where there is no other way."""
        job, size = stretch.job, stretch.job.output.num_elements
        every = self._evaluator.values(job, 0, size) if needs_whole(job) else None
        for start, count in stretch.tiles(self._tile_elements):
            if every is None:
                values = self._evaluator.values(job, start, count)
            else:
                values = every[start : start + count]
            with self._piece(stretch, start, count) as piece:
                piece.copy_(values)

    def _fuse(self, job: Merge, stretch: Stretch, loop: TileLoop) -> None:
        """Stored operands in, stored results out."""
        self._workspace.reset()
        tiles = stretch.tiles(FUSED_TILES * self._tile_elements)
        for start, stored in self._stored.read(job, tiles):
            count = stored.shape[1]
            with self._piece(stretch, start, count) as piece:
                if not loop(start, stored, as_stored(piece)):
                    self._evaluator.refuse(job, start, count)
