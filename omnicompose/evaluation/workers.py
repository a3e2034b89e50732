"""Several processes that share one results folder: started here, or by a launcher.

Workers know nothing of each other. Each takes every w-th shard and appends to a journal of its own;
whoever ends last puts the samples together. No collectives, so one that dies stops nobody, and any
number of workers may go on with what any other number began.
"""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

from omnicompose.errors import EvaluationError
from omnicompose.evaluation.evaluate import answer_share, scored
from omnicompose.evaluation.options import EvaluationOptions
from omnicompose.evaluation.results import Results
from omnicompose.evaluation.runner import Share

LAUNCHERS = (
    ("RANK", "WORLD_SIZE"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
    ("SLURM_PROCID", "SLURM_NTASKS"),
)
"""torchrun and `accelerate launch`, two kinds of mpirun, a SLURM job step: rank and number."""
LOCAL_RANKS = ("LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID")


def share_from(environment: Mapping[str, str]) -> Share:
    """The share that a launcher gives this process; the whole without one.

    Raises:
        EvaluationError: rank and size contradict one another.
    """
    for rank_name, size_name in LAUNCHERS:
        if rank_name in environment and size_name in environment:
            rank, size = environment[rank_name], environment[size_name]
            if not (rank.isdecimal() and size.isdecimal() and int(rank) < int(size)):
                raise EvaluationError(
                    f"{rank_name}={rank!r} and {size_name}={size!r}: expected a rank from 0 and "
                    "below the size. Start the workers with torchrun, accelerate or srun."
                )
            return Share(rank=int(rank), world_size=int(size))
    return Share()


def device_from(environment: Mapping[str, str], device: str) -> str:
    """`cuda` becomes the card that the launcher means for this process; others stay."""
    local = next((environment[name] for name in LOCAL_RANKS if name in environment), None)
    return f"cuda:{local}" if device == "cuda" and local is not None else device


def evaluate_with_workers(
    model_dir: Path, tasks: Sequence[str], options: EvaluationOptions, num_workers: int
) -> Results:
    """As `evaluate`, by several processes of this machine at once; the bytes are the same.

    Args:
        model_dir: this and what follows: see `answer_with_workers`.
        tasks: see there.
        options: see there.
        num_workers: see there.

    Raises:
        EvaluationError: see there, and `evaluate`.
    """
    answer_with_workers(model_dir, tasks, options, num_workers)
    return scored(options)


def answer_with_workers(
    model_dir: Path, tasks: Sequence[str], options: EvaluationOptions, num_workers: int
) -> None:
    """Ask with several processes, and write the samples.

    Args:
        model_dir: what `omnicompose compose` wrote.
        tasks: names from `TASKS`.
        options: how to ask; each worker takes its share of the cores, or card r of `cuda`.
        num_workers: processes; each loads the model.

    Raises:
        EvaluationError: see `evaluate`, or a worker was killed.
    """
    jobs = [(model_dir, tuple(tasks), options, r, num_workers) for r in range(num_workers)]
    finished = False
    # Fresh processes: a forked one would share torch's threads and locks.
    with ProcessPoolExecutor(num_workers, mp_context=get_context("spawn")) as pool:
        for done in as_completed([pool.submit(_work, *job) for job in jobs]):
            try:
                finished |= done.result()
            except BrokenProcessPool as err:
                raise EvaluationError(
                    f"{options.out_dir}: a worker was killed, perhaps for memory. What was "
                    "answered is kept: run again with fewer --num-workers or a smaller "
                    "--batch_size to go on."
                ) from err
    if not finished:
        raise EvaluationError(f"{options.out_dir}: the journal lost lines while it was written.")


def _work(
    model_dir: Path, tasks: tuple[str, ...], options: EvaluationOptions, rank: int, size: int
) -> bool:
    import torch

    torch.set_num_threads(max(1, (os.cpu_count() or 1) // size))
    device = device_from({"LOCAL_RANK": str(rank)}, options.device)
    share = Share(rank=rank, world_size=size)
    return answer_share(model_dir, tasks, replace(options, device=device), share)
