"""Progress of a merge on stderr, if a person is watching: bytes, speed, time left."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

if TYPE_CHECKING:
    from omnicompose.merging.options import Progress as MergeProgress
    from omnicompose.merging.options import Report

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
