"""Train the whole zoo from nothing.

python -m omnicompose.zoo.train [--only NAME ...] [--out DIR] [--seed N]

Two processes of one thread each; what DIR already holds of the same settings is not trained again.
"""

import argparse
import json
import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from queue import Empty, Queue

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from transformers.utils import logging

from omnicompose.errors import TrainingError
from omnicompose.zoo.catalog import write_checksums
from omnicompose.zoo.stages import STAGES, WORK, Stage, Workshop, with_needs

NUM_WORKERS = 2
# Spinning threads of a busy machine cost more than they give; read when torch is first imported.
_CALM = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
_POLL_S = 0.2

News = tuple[str, int, int]
"""A stage, how many of its steps are done, and how many there are."""


def train_zoo(
    workshop: Workshop,
    names: Sequence[str] = tuple(STAGES),
    tell: Callable[[News], None] = lambda news: None,
) -> list[str]:
    """Train the named stages and whatever they need that is missing.

    Args:
        workshop: where, and with which seed.
        names: what to make; by default everything.
        tell: told how each stage goes.

    Returns:
        The stages that were trained, in the order in which they ended.

    Raises:
        TrainingError: an unknown stage.
    """
    unknown = [name for name in names if name not in STAGES]
    if unknown:
        raise TrainingError(
            f"{unknown[0]}: the zoo has no such stage, expected one of {', '.join(STAGES)}."
        )
    todo = [stage for stage in with_needs(tuple(names)) if not is_done(workshop, stage)]
    workshop.out.mkdir(parents=True, exist_ok=True)
    os.environ.update(_CALM)
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(NUM_WORKERS, context) as pool:
        news: Queue[News] = manager.Queue()
        ended = _run_in_order(
            todo, lambda stage: pool.submit(_run, stage.name, workshop, news), news, tell
        )
    write_checksums(workshop.out)
    return ended


def is_done(workshop: Workshop, stage: Stage) -> bool:
    """Whether the workshop holds this stage's result, of the same settings and seed."""
    record = _record(workshop, stage.name)
    if not record.is_file() or not workshop.place(stage.name).exists():
        return False
    return bool(json.loads(record.read_text())["key"] == stage.key(workshop.seed))


def _run_in_order(
    todo: list[Stage],
    submit: Callable[[Stage], Future[None]],
    news: "Queue[News]",
    tell: Callable[[News], None],
) -> list[str]:
    """Start each stage when its needs have ended; the names in the order of their ends."""
    waiting, running, ended = list(todo), dict[Future[None], Stage](), list[str]()
    while waiting or running:
        missing = {stage.name for stage in (*waiting, *running.values())}
        ready = [stage for stage in waiting if not missing & set(stage.needs)]
        for stage in ready:
            waiting.remove(stage)
            running[submit(stage)] = stage
        done, _ = wait(running, timeout=_POLL_S, return_when=FIRST_COMPLETED)
        _pass_on(news, tell)
        for future in done:
            future.result()  # raises what the stage raised
            ended.append(running.pop(future).name)
    return ended


def _pass_on(news: "Queue[News]", tell: Callable[[News], None]) -> None:
    """Tell everything that the workers have said by now."""
    try:
        while True:
            tell(news.get_nowait())
    except Empty:
        return


def _run(name: str, workshop: Workshop, news: "Queue[News]") -> None:
    """Run one stage in a worker and record that it is done."""
    logging.disable_progress_bar()  # transformers' own, of loading and saving
    stage = STAGES[name]
    record = _record(workshop, name)
    record.unlink(missing_ok=True)

    def progress(done: int, total: int) -> None:
        if done % 10 == 0 or done == total:
            news.put((name, done, total))

    stage.run(workshop, progress)
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps({"key": stage.key(workshop.seed)}) + "\n")


def _record(workshop: Workshop, name: str) -> Path:
    return workshop.out / WORK / "done" / f"{name}.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m omnicompose.zoo.train", description=__doc__)
    parser.add_argument("--only", nargs="+", default=list(STAGES), metavar="NAME")
    parser.add_argument("--out", type=Path, default=Path("zoo"), metavar="DIR")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    asked = parser.parse_args(arguments)
    with _display() as tell:
        try:
            train_zoo(Workshop(out=asked.out, seed=asked.seed), asked.only, tell)
        except TrainingError as error:
            sys.stderr.write(f"{error}\n")
            return 2
    return 0


def _display() -> AbstractContextManager[Callable[[News], None]]:
    """Bars on a terminal, silence elsewhere."""
    console = Console(stderr=True)
    return _Bars(console) if console.is_terminal else nullcontext(lambda news: None)


class _Bars:
    """One bar per stage that has begun."""

    def __init__(self, console: Console) -> None:
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
        self._progress = Progress(*columns, TimeElapsedColumn(), console=console)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Callable[[News], None]:
        self._progress.start()
        return self._tell

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def _tell(self, news: News) -> None:
        name, done, total = news
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name)
        self._progress.update(self._tasks[name], completed=done, total=total)


if __name__ == "__main__":
    sys.exit(main())
