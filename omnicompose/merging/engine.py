"""The engine: from jobs to finished safetensors files, in fixed memory, interruptible at any time.

Call `run_merge`. It knows the place of every output byte before any arithmetic, walks the jobs in
file order, and renames one finished folder into place at the very end.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from omnicompose.merging.job import Job

GIBIBYTE = 1 << 30


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
        num_threads: tensors worked on at the same time; None: chosen from the machine.
        tile_elements: elements per tile of element-wise methods.
    """

    memory_bytes: int = 2 * GIBIBYTE
    device: str = "cpu"
    resume: bool = False
    overwrite: bool = False
    shard_bytes: int = 5_000_000_000
    allow_nonfinite: bool = False
    num_threads: int | None = None
    tile_elements: int = 1 << 18


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a merge has come.

    Attributes:
        stage: `observe` (statistics), `write` (tensors) or `digest` (file hashes).
        done_bytes: work done in this stage, in output bytes.
        total_bytes: work of this stage.
        tensor: the last tensor finished.
    """

    stage: Literal["observe", "write", "digest"]
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
        files: weight files and index, in order.
        tensors: sha256 of the bytes of every tensor by name.
        bytes_read: from the sources, cached or not.
        bytes_written: of tensors.
        seconds: wall time.
        peak_buffer_bytes: most memory that buffers held at one time.
        resumed_tensors: tensors taken over from an interrupted run.
    """

    files: tuple[WrittenFile, ...]
    tensors: Mapping[str, str]
    bytes_read: int
    bytes_written: int
    seconds: float
    peak_buffer_bytes: int
    resumed_tensors: int


Report = Callable[[Progress], None]
Assemble = Callable[[Path, MergeResult], None]


def least_memory(jobs: Sequence[Job], options: EngineOptions) -> int:
    """The least `memory_bytes` that would do for these jobs, from headers alone."""
    raise NotImplementedError


def run_merge(
    jobs: Sequence[Job],
    out_dir: Path,
    options: EngineOptions | None = None,
    report: Report | None = None,
    assemble: Assemble | None = None,
) -> MergeResult:
    """Compute every job and leave one finished folder.

    Work goes to `.<name>.partial` beside the output; a killed or failed run leaves only that, and
    `resume=True` takes it up again.

    Args:
        jobs: one per output tensor; their order is the order in the files.
        out_dir: the folder to make.
        options: how to run; the defaults if None.
        report: called with the progress after each tensor, from one thread at a time.
        assemble: called with the partial folder and the result when all tensors are written and
            before the folder gets its name; writes whatever else belongs in it (configuration,
            processor, manifest). If it raises, the folder stays partial.

    Returns:
        What was written, with hashes.

    Raises:
        MergeError: an input is not finite, does not fit its job or the memory, the disk is full,
            the output exists or is in use, or the partial folder is of another plan.
        SourceError: an input cannot be read.
    """
    raise NotImplementedError
