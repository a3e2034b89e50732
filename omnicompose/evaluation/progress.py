"""One bar on stderr, if a person is watching: done, rate, time left, errors."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Advance = Callable[[int, int], None]
"""Call with questions done and errors among them."""


@contextmanager
def progress_bar(name: str, total: int) -> Iterator[Advance]:
    """Show how far the questions of one task are; without a name, nothing."""
    if not name or not sys.stderr.isatty():
        yield lambda done, failed: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[errors]}"),
    )
    errors = 0
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=total, rate="", errors="")

        def advance(done: int, failed: int) -> None:
            nonlocal errors
            errors += failed
            bar.advance(task, done)
            speed = bar.tasks[0].speed
            bar.update(
                task,
                rate=f"{speed:.0f} questions/s" if speed else "",
                errors=f"[red]{errors} unreadable" if errors else "",
            )

        yield advance
