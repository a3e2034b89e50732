"""Progress on stderr, if a person is watching: of a merge by bytes, of a training by steps."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

if TYPE_CHECKING:
    from omnicompose.merging.options import Progress as MergeProgress
    from omnicompose.merging.options import Report
    from omnicompose.training.train import Progress as TrainProgress

STAGES = {"observe": "looking", "write": "writing"}


@contextmanager
def merge_progress() -> Iterator["Report"]:
    """A callback for the engine that moves one bar per stage."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not sys.stderr.isatty()) as bar:
        tasks = {stage: bar.add_task(word, start=False) for stage, word in STAGES.items()}

        def report(progress: "MergeProgress") -> None:
            task = tasks[progress.stage]
            bar.start_task(task)
            bar.update(task, completed=progress.done_bytes, total=progress.total_bytes)

        yield report


@contextmanager
def training_progress() -> Iterator["TrainProgress"]:
    """A callback for a training that moves one bar per stage and shows the loss."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f}"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not sys.stderr.isatty()) as bar:
        tasks: dict[str, TaskID] = {}

        def report(stage: str, done: int, total: int, loss: float) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total, loss=loss)
            bar.update(tasks[stage], completed=done, loss=loss)

        yield report
