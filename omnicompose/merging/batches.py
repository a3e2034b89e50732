"""What a thread is handed at once: several small tensors, or a stretch of a large one.

Handing thousands of small tensors from thread to thread one by one costs more than their work. Of a
large one several threads do a stretch each: so all of them stay near the place in the output that
is hashed next, and none is left alone with a large tensor at the end.
"""

import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from omnicompose.merging.job import Copy, Job, Merge, merges, needs_whole, survey_of
from omnicompose.tensors.pieces import cuts
from omnicompose.tensors.writer import Place

STRETCH_BYTES = 1 << 23
"""Of an output tensor, for one thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Jobs, whole; or a stretch of the elements of a single one.

    Attributes:
        jobs: in order.
        start: first element of the single job.
        count: how many of its elements; None: all of every job.
    """

    jobs: tuple[Job, ...]
    start: int = 0
    count: int | None = None

    @property
    def names(self) -> list[str]:
        """Output tensors."""
        return [job.output.name for job in self.jobs]


def in_batches(
    jobs: Sequence[Job],
    places: Mapping[str, Place],
    batch_bytes: int,
    needed: Mapping[str, int],
    most_needed: int,
) -> list[Batch]:
    """Consecutive jobs together, up to so many output bytes; a larger one comes alone.

    Args:
        jobs: in order.
        places: of their tensors in the output.
        batch_bytes: of output in a batch of several.
        needed: memory of each job, by output tensor.
        most_needed: memory of a batch of several: its jobs may be computed as one.
    """
    batches: list[list[Job]] = []
    filled, memory = batch_bytes, 0
    for job in jobs:
        filled += job.output.num_bytes
        memory += needed[job.output.name]
        if not batches or filled > batch_bytes or memory > most_needed:
            batches.append([])
            filled, memory = job.output.num_bytes, needed[job.output.name]
        batches[-1].append(job)
    return [part for batch in batches for part in _parts(batch, places)]


def _parts(jobs: Sequence[Job], places: Mapping[str, Place]) -> list[Batch]:
    output = jobs[0].output
    if len(jobs) > 1 or output.num_bytes <= STRETCH_BYTES or not _can_be_parted(jobs[0]):
        return [Batch(jobs=tuple(jobs))]
    itemsize = output.dtype.itemsize
    found = cuts(
        places[output.name].offset, output.num_elements, itemsize, STRETCH_BYTES // itemsize
    )
    return [Batch(jobs=tuple(jobs), start=start, count=count) for start, count in found]


def _can_be_parted(job: Job) -> bool:
    """Whether nothing has to be known of the whole tensor before some of it is computed."""
    if not isinstance(job, Copy | Merge) or needs_whole(job):
        return False
    surveys = [survey_of(merge) for merge in merges(job)]
    return all(survey.scope == "model" for survey in surveys if survey.num_passes)


class Unfinished:
    """Batches that every tensor waits for."""

    def __init__(self, batches: Iterable[Batch]) -> None:
        """None is done yet."""
        self._left = Counter(name for batch in batches for name in batch.names)
        self._lock = threading.Lock()

    def finish(self, names: Iterable[str]) -> list[str]:
        """Take a batch of these tensors as done; those that are complete now."""
        with self._lock:
            self._left.subtract(names := list(names))
            return [name for name in names if not self._left[name]]
