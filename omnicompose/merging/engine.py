"""The engine: from jobs to finished safetensors files, in fixed memory, interruptible at any time.

Call `run_merge`. It knows the place of every output byte before any arithmetic, walks the jobs in
file order, and renames one finished folder into place at the very end. Each thread owns a stretch
of the output at a time and reads, computes and writes it tile by tile; one more hashes what they
have written while it is still in memory. While one waits for the disk the others compute. Nothing
that is added up depends on the threads, so neither does any byte.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from omnicompose.errors import MergeError
from omnicompose.merging.allocator import keeping_freed_memory
from omnicompose.merging.batches import Batch, Unfinished, in_batches
from omnicompose.merging.checks import check_jobs
from omnicompose.merging.cost import bytes_read, bytes_written, working_bytes
from omnicompose.merging.evaluation import Evaluator
from omnicompose.merging.fingerprint import InputFiles, job_hashes
from omnicompose.merging.fused import worthwhile
from omnicompose.merging.job import Job
from omnicompose.merging.options import (
    MOST_THREADS,
    Assemble,
    EngineOptions,
    MergeResult,
    Report,
    WrittenFile,
    thread_count,
)
from omnicompose.merging.parallel import Pool
from omnicompose.merging.statistics import Statistics
from omnicompose.merging.survey import survey_model
from omnicompose.merging.tensor_writer import TensorWriter
from omnicompose.merging.tracking import Tracker
from omnicompose.merging.workspace import MemoryBudget, Workspace
from omnicompose.tensors.digest import FollowingDigest
from omnicompose.tensors.layout import Layout, make_layout
from omnicompose.tensors.pieces import PIECE_BYTES, Pieces
from omnicompose.tensors.writer import OutputFolder, check_free, write_error

MOST_KEPT_BYTES = 1 << 26
"""Of what is written, kept in memory until it is hashed."""


def least_memory(jobs: Sequence[Job], options: EngineOptions) -> int:
    """The least `memory_bytes` that would do for these jobs, from headers alone."""
    return max((working_bytes(job, options.tile_elements) for job in jobs), default=0)


def run_merge(
    jobs: Sequence[Job],
    out_dir: Path,
    options: EngineOptions | None = None,
    report: Report | None = None,
    assemble: Assemble | None = None,
) -> MergeResult:
    """Compute every job and leave one finished folder.

    Work goes to `.<name>.partial` beside the output; a killed or failed run leaves only that, and
    `resume=True` takes it up again. Without `resume` it is begun anew.

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
        SourceError: an input cannot be read, or changed meanwhile.
    """
    options = options or EngineOptions()
    out_dir = out_dir.absolute()
    started = time.perf_counter()
    check_free(out_dir, overwrite=options.overwrite)
    check_jobs(jobs)
    needed = check_memory(jobs, options)
    check_device(options.device)
    layout = make_layout([job.output for job in jobs], options.shard_bytes)
    inputs = InputFiles()
    hashes = job_hashes(jobs, inputs)
    folder = OutputFolder(out_dir, layout, {job.output.name: job.output.num_bytes for job in jobs})
    try:
        folder.begin(hashes, resume=options.resume)
        result = _Run(jobs, needed, folder, layout, options).finish(report, started)
        inputs.check_unchanged()
        if assemble is not None:
            assemble(folder.partial, result)
        folder.publish(overwrite=options.overwrite)
    finally:
        folder.close()
    return result


def check_memory(jobs: Sequence[Job], options: EngineOptions) -> Mapping[str, int]:
    """The memory that every output tensor needs; refuse a limit that some cannot be merged in.

    Raises:
        MergeError: naming the tensor and the least limit that would do.
    """
    needed = {job.output.name: working_bytes(job, options.tile_elements) for job in jobs}
    for name, num_bytes in needed.items():
        if num_bytes > options.memory_bytes:
            least = -(-max(needed.values()) >> 20)
            raise MergeError(
                f"tensor '{name}': found a memory limit of "
                f"{options.memory_bytes / (1 << 20):.3g} MiB; expected at least {least} MiB. "
                f"Use --memory {least}MiB, or an element-wise method for this tensor."
            )
    return needed


def check_device(name: str) -> None:
    """Refuse a device that cannot compute.

    Raises:
        MergeError: it is unknown or not there.
    """
    try:
        if torch.device(name).type not in ("cpu", "cuda"):
            raise RuntimeError("expected cpu, cuda or cuda:N")
        torch.empty(1, device=torch.device(name))
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise MergeError(f"--device {name}: not usable ({reason}). Use --device cpu.") from error


class _Run:
    """One run over a folder that is laid out."""

    def __init__(
        self,
        jobs: Sequence[Job],
        needed: Mapping[str, int],
        folder: OutputFolder,
        layout: Layout,
        options: EngineOptions,
    ) -> None:
        self._folder, self._layout = folder, layout
        self._needed, self._options = needed, options
        self._device = torch.device(options.device)
        self._jobs = jobs
        finished = folder.finished()
        self._left = [job for job in jobs if job.output.name not in finished]
        self._fuses = worthwhile(self._left, options)
        self._budget = MemoryBudget(options.memory_bytes)
        self._num_threads = thread_count(options, bytes_written(self._left))
        self._pool = Pool(self._num_threads, self._budget)

    def finish(self, report: Report | None, started: float) -> MergeResult:
        """Compute what is left, bring it to the disk, and add up what happened."""
        kept = self._kept_bytes()
        self._budget.take(kept, self._pool.stop)
        most_kept = kept // PIECE_BYTES
        pieces = Pieces(
            self._num_threads + most_kept,
            most_kept=most_kept,
            pinned=self._device.type == "cuda",
        )
        digest = FollowingDigest(self._folder.digests, self._folder.note, pieces)
        try:
            with one_thread_per_tensor(), keeping_freed_memory():
                self._write_all(self._survey(report), digest, report)
            self._folder.seal()
            sums = digest.result()
        except OSError as error:
            raise write_error(self._folder.partial, error) from error
        finally:
            digest.stop()
        return self._result(sums, time.perf_counter() - started)

    def _kept_bytes(self) -> int:
        """Memory for pieces that wait to be hashed: what the largest job leaves, within reason.

        The piece that a thread is at work on counts to its job.
        """
        memory = self._options.memory_bytes
        left = memory - max(self._needed.values(), default=0)
        return min(MOST_KEPT_BYTES, memory // 8, left, bytes_written(self._left))

    def _survey(self, report: Report | None) -> Mapping[int, Statistics]:
        return survey_model(
            self._jobs if self._left else (),
            self._pool,
            lambda: self._evaluator(Workspace(self._device)),
            self._options.tile_elements,
            report,
        )

    def _evaluator(self, workspace: Workspace) -> Evaluator:
        return Evaluator(
            workspace,
            self._options.tile_elements,
            allow_nonfinite=self._options.allow_nonfinite,
            device=self._device,
            fuses=self._fuses,
        )

    def _write_all(
        self,
        known: Mapping[int, Statistics],
        digest: FollowingDigest,
        report: Report | None,
    ) -> None:
        places = self._folder.places()
        tracker = Tracker("write", bytes_written(self._jobs), report)
        tracker.add(bytes_written(self._jobs) - bytes_written(self._left), "")
        most = self._options.memory_bytes // (2 * MOST_THREADS)
        batches = in_batches(self._left, places, self._options.batch_bytes, self._needed, most)
        unfinished = Unfinished(batches)

        def make_worker() -> Callable[[Batch], None]:
            workspace = Workspace(self._device)
            writer = TensorWriter(
                self._evaluator(workspace),
                self._folder,
                digest,
                workspace,
                self._pool.stop,
                self._options,
            )

            def work(batch: Batch) -> None:
                done: list[str] = []
                try:
                    for num_bytes, names in writer.write_batch(batch, places, known):
                        done += names
                        tracker.add(num_bytes, names[-1])
                finally:
                    digest.complete(unfinished.finish(done))

            return work

        self._pool.run(batches, self._working_bytes, make_worker)

    def _working_bytes(self, batch: Batch) -> int:
        return sum(self._needed[name] for name in batch.names)

    def _result(self, sums: Mapping[str, str], seconds: float) -> MergeResult:
        return MergeResult(
            files=tuple(
                WrittenFile(name=file.name, num_bytes=file.num_bytes, sha256=sums[file.name])
                for file in self._layout.files
            ),
            measures={
                job.output.name: self._folder.measures[job.output.name]
                for job in self._jobs
                if job.output.name in self._folder.measures
            },
            bytes_read=sum(bytes_read(job) for job in self._left),
            bytes_written=bytes_written(self._left),
            seconds=seconds,
            peak_buffer_bytes=self._budget.peak,
            resumed_tensors=len(self._jobs) - len(self._left),
        )


@contextmanager
def one_thread_per_tensor() -> Iterator[None]:
    """Let torch compute on one thread for each tensor.

    More would fight for the same processors, and a product that is split rounds differently.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
