"""Faults of the machine: no space, no leave to write, no memory, a jumping clock, a second one."""

import errno
import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from faults_process import Outcome, run, scratch, start, wait
from faults_works import ROOT, Work

from omnicompose.composer import ComposeOptions, compose


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One accident and what became of it.

    Attributes:
        kind: of accident.
        what: happened, in words.
        result: `clear error`, `resumed identical`, `lost`, `wrong success` or `fault`.
        detail: of a result that must not be.
    """

    kind: str
    what: str
    result: str
    detail: str = ""


def judged(
    work: Work, out: Path, outcome: Outcome, expected: dict[str, object], kind: str
) -> Trial:
    """What an accident left: nothing wrong, and everything that resuming needs."""
    what = f"{work.name}: {outcome.kind}"
    if outcome.kind in ("fault", "hung"):
        return Trial(kind=kind, what=what, result="fault", detail=outcome.message[-600:])
    finished = work.atomic and out.exists()
    if finished and work.contents(out) != expected:
        return Trial(
            kind=kind, what=what, result="wrong success", detail=_difference(work, out, expected)
        )
    if outcome.kind == "done" and not out.exists():
        return Trial(kind=kind, what=what, result="wrong success", detail="nothing was written")
    if not finished:
        again = run(lambda: work.do(out, True))
        if again.kind != "done":
            return Trial(kind=kind, what=what, result="lost", detail=again.message[-600:])
    if work.contents(out) != expected:
        return Trial(kind=kind, what=what, result="lost", detail=_difference(work, out, expected))
    result = "clear error" if outcome.kind == "refused" else "resumed identical"
    return Trial(kind=kind, what=what, result=result)


def _difference(work: Work, out: Path, expected: dict[str, object]) -> str:
    found = work.contents(out)
    names = sorted(n for n in found.keys() | expected.keys() if found.get(n) != expected.get(n))
    return f"other than expected: {', '.join(names)}"


def full_disks(works: list[Work], expected: dict[str, dict[str, object]]) -> Iterator[Trial]:
    """A disk with too little space; then the space comes back."""
    for work in works:
        for megabytes in (1, 3):
            with _small_disk(megabytes) as disk:
                if disk is None:
                    return
                out = disk / "out"
                outcome = run(lambda work=work, out=out: work.do(out, False))
                if outcome.kind == "done":
                    continue  # it fitted
                subprocess.run(["mount", "-o", "remount,size=200m", str(disk)], check=True)
                yield judged(work, out, outcome, expected[work.name], "disk full")


def read_only(works: list[Work]) -> Iterator[Trial]:
    """A folder that may not be written to."""
    with _small_disk(1) as disk:
        if disk is None:
            return
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        for work in works:
            outcome = run(lambda work=work: work.do(disk / "out", False))
            result = {"refused": "clear error", "done": "wrong success"}.get(outcome.kind, "fault")
            what = f"{work.name}: {outcome.kind}"
            yield Trial(kind="read-only", what=what, result=result, detail=outcome.message[-600:])


def small_budgets() -> Iterator[Trial]:
    """Budgets below what the engine needs at least."""
    recipe = ROOT / "configs/naive-standard.yaml"
    for budget in (1, 1 << 10, 1 << 14):
        out = scratch() / "out"
        options = ComposeOptions(memory_bytes=budget)
        outcome = run(lambda out=out, options=options: _discard(compose(recipe, out, options)))
        kept = outcome.kind == "refused" and not out.exists()
        good = "clear error" if kept else "resumed identical"
        result = good if outcome.kind in ("refused", "done") else "fault"
        what = f"compose in {budget} bytes: {outcome.kind}"
        yield Trial(kind="memory budget", what=what, result=result, detail=outcome.message[-600:])


def _discard(_: object) -> None:
    """A result that is not looked at."""


def jumping_clocks(
    works: list[Work], expected: dict[str, dict[str, object]], seed: int
) -> Iterator[Trial]:
    """A wall clock that leaps by years in both directions at every look."""
    for work in works:
        out = scratch() / "out"

        def leaping(work: Work = work, out: Path = out) -> None:
            rng, real = random.Random(seed), time.time
            time.time = lambda: real() + rng.choice((-1, 1)) * rng.random() * 3e8
            work.do(out, False)

        yield judged(work, out, run(leaping), expected[work.name], "clock jumps")


def two_at_once(works: list[Work], expected: dict[str, dict[str, object]]) -> Iterator[Trial]:
    """Two processes that write one folder."""
    for work in works:
        out = scratch() / "out"
        both = [start(lambda work=work, out=out: work.do(out, False), None) for _ in range(2)]
        outcomes = [wait(*one) for one in both]
        faults = [one for one in outcomes if one.kind in ("fault", "hung")]
        worst = faults[0] if faults else min(outcomes, key=lambda one: one.kind == "refused")
        yield judged(work, out, worst, expected[work.name], "two processes")


@contextmanager
def _small_disk(megabytes: int) -> Iterator[Path | None]:
    """A disk of its own in memory; None where this process may not mount one."""
    folder = scratch()
    size = f"size={megabytes}m"
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)], capture_output=True, check=False
    )
    if done.returncode:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


def torn_writes(work: Work, expected: dict[str, object], places: list[int]) -> Iterator[Trial]:
    """The disk refuses the n-th write, wherever that falls."""
    for place in places:
        out = scratch() / "out"

        def failing(out: Path = out, place: int = place) -> None:
            _fail_write(place)
            work.do(out, False)

        yield judged(work, out, run(failing), expected, "failing write")


def _fail_write(place: int) -> None:
    """From the n-th call on, os.pwrite and os.fsync say that the disk is full."""
    left = [place]

    def failing(real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object) -> object:
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(*arguments)

        return call

    for name in ("pwrite", "pwritev", "fsync", "write"):
        setattr(os, name, failing(getattr(os, name)))
