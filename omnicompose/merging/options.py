"""How a merge is run, what it reports while it runs, and what it leaves."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

GIBIBYTE = 1 << 30
MOST_THREADS = 8
BYTES_PER_THREAD = 1 << 24
"""With less to write for each, threads wait for one another longer than they work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """How a merge is run; none of it changes a byte of the tensors.

    Attributes:
        memory_bytes: hard limit of all buffers together.
        device: where the arithmetic runs: `cpu`, `cuda` or `cuda:N`.
        resume: go on with an interrupted merge of the same plan.
        overwrite: replace an output folder that exists.
        shard_bytes: greatest number of tensor bytes per file.
        allow_nonfinite: let NaN and infinities through instead of refusing them.
        num_threads: tensors worked on at the same time; None: one more than processors, as one
            waits for the disk; 8 at most.
        tile_elements: elements per tile of element-wise methods.
        batch_bytes: small tensors are handed to a thread together, up to so many output bytes.
        fuse: use the compiled loops of methods that have them; None: where it pays.
    """

    memory_bytes: int = 2 * GIBIBYTE
    device: str = "cpu"
    resume: bool = False
    overwrite: bool = False
    shard_bytes: int = 5_000_000_000
    allow_nonfinite: bool = False
    num_threads: int | None = None
    tile_elements: int = 1 << 18
    batch_bytes: int = 1 << 20
    fuse: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a merge has come.

    Attributes:
        stage: `observe` (statistics that span the model) or `write` (tensors).
        done_bytes: work done in this stage, in output bytes.
        total_bytes: work of this stage.
        tensor: the tensor finished last.
    """

    stage: Literal["observe", "write"]
    done_bytes: int
    total_bytes: int
    tensor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenFile:
    """A finished file: its name in the folder, size and sha256 (hexadecimal)."""

    name: str
    num_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeResult:
    """What a merge wrote.

    Attributes:
        files: weight files in order.
        measures: by tensor, facts that were found while it was computed.
        bytes_read: from the sources, cached or not.
        bytes_written: of tensors, in this run.
        seconds: wall time until all bytes were on the disk.
        peak_buffer_bytes: most memory that jobs had borrowed at one time.
        resumed_tensors: tensors taken over from an interrupted run.
    """

    files: tuple[WrittenFile, ...]
    measures: Mapping[str, Mapping[str, float]]
    bytes_read: int
    bytes_written: int
    seconds: float
    peak_buffer_bytes: int
    resumed_tensors: int


Report = Callable[[Progress], None]
Assemble = Callable[[Path, MergeResult], None]


def thread_count(options: EngineOptions, num_bytes: int) -> int:
    """How many tensors are worked on at the same time, for an output of so many bytes."""
    worthwhile = 1 + num_bytes // BYTES_PER_THREAD
    processors = len(os.sched_getaffinity(0))
    return options.num_threads or min(processors + 1, MOST_THREADS, worthwhile)
