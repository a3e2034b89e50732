"""One finished output tensor: computed or copied tile by tile, rounded once, written."""

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import torch

from omnicompose.errors import MergeError
from omnicompose.merging.evaluation import Evaluator
from omnicompose.merging.finite import all_finite, check_rounding, refuse_nonfinite
from omnicompose.merging.fused import StoredTiles, as_stored
from omnicompose.merging.job import Copy, Job, Merge, needs_whole
from omnicompose.merging.joint import as_one
from omnicompose.merging.method import TileLoop
from omnicompose.merging.options import EngineOptions
from omnicompose.merging.parallel import Stopped
from omnicompose.merging.statistics import Statistics
from omnicompose.merging.workspace import Workspace
from omnicompose.tensors.source import tensor_bytes
from omnicompose.tensors.writer import OutputFolder, Place

NARROW_DTYPES = frozenset(
    {torch.float16, torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e8m0fnu}
)
"""Dtypes whose range a finite fp32 result may well exceed."""

Sink = Callable[[int, torch.Tensor], None]


class TensorWriter:
    """Writes tensors, one at a time, in the buffers of one thread."""

    def __init__(
        self,
        evaluator: Evaluator,
        folder: OutputFolder,
        workspace: Workspace,
        stop: threading.Event,
        options: EngineOptions,
    ) -> None:
        """Compute with `evaluator`, whose buffers are those of `workspace`, until `stop` is set."""
        self._evaluator, self._folder, self._workspace = evaluator, folder, workspace
        self._stop = stop
        self._tile_elements = options.tile_elements
        self._allow_nonfinite = options.allow_nonfinite
        self._stored = StoredTiles(workspace, options.tile_elements)

    def write_run(
        self, run: Sequence[Job], places: Mapping[str, Place], known: Mapping[int, Statistics]
    ) -> None:
        """Write the tensors of jobs that may be computed as one, and note what was measured.

        Raises:
            MergeError: a result is not finite, or the disk refuses.
            SourceError: an input cannot be read.
        """
        if len(run) > 1:
            # What is refused in a long tensor is looked for once more, to name the short one.
            with suppress(MergeError):
                self.write(as_one(run), places[run[0].output.name], known)
                return
        for job in run:
            name = job.output.name
            self._folder.measured(name, self.write(job, places[name], known))

    def write(self, job: Job, place: Place, known: Mapping[int, Statistics]) -> Mapping[str, float]:
        """Write the tensor of a job; what was measured meanwhile.

        Raises:
            MergeError: the result is not finite, or the disk refuses.
            SourceError: an input cannot be read.
        """

        def sink(position: int, rounded: torch.Tensor) -> None:
            if self._stop.is_set():
                raise Stopped
            self._folder.write(place, position * rounded.itemsize, tensor_bytes(rounded))

        if isinstance(job, Copy):
            self._copy(job, sink)
            return {}
        if not job.output.num_elements:
            return {}
        return self._compute(job, known, sink)

    def _copy(self, job: Copy, sink: Sink) -> None:
        """Equal dtypes: the very bytes, a tile at a time."""
        info = job.tensor.info
        for start, count in _tiles(info.num_elements, self._tile_elements):
            self._workspace.reset()
            stored = self._workspace.take(info.dtype, count, on_host=True)
            job.tensor.source.read_into(job.tensor.name, job.tensor.start + start, stored)
            if not self._allow_nonfinite and info.dtype.is_floating_point:
                self._check_copied(stored, job, start)
            if info.dtype == job.output.dtype:
                sink(start, stored)
                continue
            cast = self._workspace.take(job.output.dtype, count, on_host=True)
            cast.copy_(stored)
            if not self._allow_nonfinite:
                check_rounding(cast, job.output, start)
            sink(start, cast)

    def _check_copied(self, stored: torch.Tensor, job: Copy, start: int) -> None:
        values = stored if stored.itemsize > 1 else stored.float()
        if not all_finite(values):
            where = job.tensor.source.byte_range(job.tensor.name)
            label = job.tensor.source.label if where is None else str(where.path)
            refuse_nonfinite(values, job.tensor.info, label, start)

    def _compute(
        self, job: Job, known: Mapping[int, Statistics], sink: Sink
    ) -> Mapping[str, float]:
        self._evaluator.begin(job, known)
        loop = self._evaluator.loop(job)
        size = job.output.num_elements
        if loop is not None and isinstance(job, Merge):
            self._fuse(job, loop, sink)
            self._evaluator.end()
            return {}
        for start, count in _tiles(size, size if needs_whole(job) else self._tile_elements):
            values = self._evaluator.values(job, start, count)
            rounded = self._workspace.take(
                job.output.dtype, min(count, self._tile_elements), on_host=True
            )
            for position, piece_count in _tiles(count, self._tile_elements):
                piece = rounded[:piece_count]
                piece.copy_(values[position : position + piece_count])
                if not self._allow_nonfinite and job.output.dtype in NARROW_DTYPES:
                    check_rounding(piece, job.output, start + position)
                sink(start + position, piece)
        measures = dict(self._evaluator.measures)
        self._evaluator.end()
        return measures

    def _fuse(self, job: Merge, loop: TileLoop, sink: Sink) -> None:
        """Stored operands in, stored results out."""
        self._workspace.reset()
        rounded = self._stored.result(job)
        out = as_stored(rounded)
        for start, stored in self._stored.read(job, 0, job.output.num_elements):
            count = stored.shape[1]
            if not loop(stored, out[:count]):
                self._evaluator.refuse(job, start, count)
            if job.output.dtype in NARROW_DTYPES:
                check_rounding(rounded[:count], job.output, start)
            sink(start, rounded[:count])


def _tiles(size: int, tile: int) -> list[tuple[int, int]]:
    return [(start, min(tile, size - start)) for start in range(0, size, max(tile, 1))]
