"""One bar on stderr, if a person is watching: done, rate, time left, errors, unread replies."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Advance = Callable[[int, int, int], None]
"""Call with lines done, and how many of them are errors and replies that cannot be read."""


@contextmanager
def progress_bar(name: str, total: int) -> Iterator[Advance]:
    """Show how far the questions of one task are; without a name, nothing."""
    if not name or not sys.stderr.isatty():
        yield lambda done, failed, unread: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[wrong]}"),
    )
    errors = unparsed = 0
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=total, rate="", wrong="")

        def advance(done: int, failed: int, unread: int) -> None:
            nonlocal errors, unparsed
            errors, unparsed = errors + failed, unparsed + unread
            bar.advance(task, done)
            speed = bar.tasks[0].speed
            bar.update(
                task,
                rate=f"{speed:.0f} questions/s" if speed else "",
                wrong=_told(errors, unparsed),
            )

        yield advance


def _told(errors: int, unparsed: int) -> str:
    media = f"[red]{errors} unreadable[/red] " if errors else ""
    return media + (f"{unparsed} unparsed" if unparsed else "")
