"""What building a composite costs, from headers alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import nlargest

from omnicompose.merging.cost import bytes_read, bytes_written, working_bytes
from omnicompose.merging.job import Job
from omnicompose.merging.options import MOST_THREADS, EngineOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanCost:
    """Bytes that a plan moves and holds.

    Attributes:
        bytes_to_read: from all sources, every pass counted.
        bytes_to_write: tensors of the output.
        least_memory_bytes: what the greatest tensor takes to compute; less is refused.
        peak_memory_bytes: the engine's buffers at most, under its default budget.
        stream_bytes: modality to what its own weights add, on disk and in memory.
    """

    bytes_to_read: int
    bytes_to_write: int
    least_memory_bytes: int
    peak_memory_bytes: int
    stream_bytes: Mapping[str, int]


def plan_cost(jobs: Sequence[Job], stream_bytes: Mapping[str, int]) -> PlanCost:
    """Add up what jobs read, write and hold."""
    options = EngineOptions()
    held = [working_bytes(job, options.tile_elements) for job in jobs]
    return PlanCost(
        bytes_to_read=sum(map(bytes_read, jobs)),
        bytes_to_write=bytes_written(jobs),
        least_memory_bytes=max(held, default=0),
        peak_memory_bytes=min(options.memory_bytes, sum(nlargest(MOST_THREADS, held))),
        stream_bytes=dict(stream_bytes),
    )
