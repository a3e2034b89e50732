"""The fault campaign: what accidents cost. Nothing may be lost, nothing wrong may look finished.

    python benchmarks/faults.py [--kills 200] [--malformed 300] [--seed 0]

Kills at random points over compose, merge, evaluate and train; malformed inputs; a full disk, a
read-only one, too small a budget of memory, a clock that jumps, two processes on one folder. After
each accident the same command goes on (`--resume`) and must give the bytes of an undisturbed run.
Trials are forks of one warm process; each is told on stderr as it ends. Last line: JSON with
`tried`, `lost`, `wrong_success` (and `faults`: errors without clear words). Exits with 1 unless the
last three are 0.
"""

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from faults_malformed import malformed_inputs
from faults_process import Kill, run, scratch, timed
from faults_surroundings import (
    Trial,
    full_disks,
    judged,
    jumping_clocks,
    read_only,
    small_budgets,
    torn_writes,
    two_at_once,
)
from faults_works import Work, make_works

RESULTS = ("clear error", "resumed identical", "fault", "lost", "wrong success")
CLOCKS = ("cpu", "wall")


@dataclass(frozen=True, slots=True, kw_only=True)
class Undisturbed:
    """A work that nothing happens to.

    Attributes:
        contents: what it leaves.
        seconds: how long it takes, by the clocks `cpu` and `wall`.
    """

    contents: dict[str, object]
    seconds: tuple[float, float]


def undisturbed(work: Work) -> Undisturbed:
    """Do a work in peace."""
    out = scratch() / "out"
    seconds = timed(lambda: work.do(out, False))
    found = Undisturbed(contents=work.contents(out), seconds=seconds)
    shutil.rmtree(out.parent)
    return found


def kills(
    works: list[Work], peace: dict[str, Undisturbed], number: int, seed: int
) -> Iterator[Trial]:
    """Ends at random points, half of them by the child's own work, half by the wall clock."""
    rng = random.Random(seed)
    for place in range(number):
        work = works[place % len(works)]
        which = (place // len(works)) % 2
        seconds = rng.random() * peace[work.name].seconds[which]
        out = scratch() / "out"
        kill = Kill(clock=CLOCKS[which], seconds=seconds)
        outcome = run(lambda work=work, out=out: work.do(out, False), kill)
        yield judged(work, out, outcome, peace[work.name].contents, f"kill during {work.name}")
        shutil.rmtree(out.parent, ignore_errors=True)


def malformed(folder: Path, omni: Path, number: int, seed: int) -> Iterator[Trial]:
    """Inputs that are wrong by construction; each must be refused in words."""
    for one in malformed_inputs(folder, omni, number, seed):
        outcome = run(one.attempt)
        result = "clear error" if outcome.kind == "refused" else "fault"
        if outcome.kind == "done" or one.out.exists():
            result = "wrong success"
        kind = f"malformed {one.kind}"
        yield Trial(kind=kind, what=one.what, result=result, detail=outcome.message[-600:])


def campaign(options: argparse.Namespace, folder: Path) -> Iterator[Trial]:
    """All trials, one after the other."""
    works = [work for work in make_works(folder) if work.name in options.works.split(",")]
    for work in works:  # here, so that no fork has to import what it needs
        work.do(scratch() / "out", False)
    peace = {work.name: undisturbed(work) for work in works}
    for name, one in peace.items():
        print(f"{name} in peace: {one.seconds[0]:.1f} s of CPU time", file=sys.stderr, flush=True)
    expected = {name: one.contents for name, one in peace.items()}
    yield from read_only(works)
    yield from small_budgets()
    yield from full_disks(works, expected)
    yield from two_at_once(works, expected)
    yield from jumping_clocks(works, expected, options.seed)
    rng = random.Random(options.seed)
    for work in works:
        if work.atomic:
            places = [rng.randrange(60) for _ in range(options.writes)]
            yield from torn_writes(work, expected[work.name], places)
    yield from malformed(folder / "malformed", folder / "omni", options.malformed, options.seed)
    yield from kills(works, peace, options.kills, options.seed)


def table(trials: list[Trial]) -> str:
    """Tried and what came of it, by kind of accident, as Markdown."""
    kinds = list(dict.fromkeys(trial.kind for trial in trials))
    counts = Counter((trial.kind, trial.result) for trial in trials)
    lines = [
        f"| accident | tried | {' | '.join(RESULTS)} |",
        f"|---|{'---|' * (len(RESULTS) + 1)}",
    ]
    for kind in [*kinds, "all"]:
        chosen = [
            counts[kind, r] if kind != "all" else sum(counts[k, r] for k in kinds) for r in RESULTS
        ]
        lines.append(f"| {kind} | {sum(chosen)} | {' | '.join(map(str, chosen))} |")
    return "\n".join(lines)


def main() -> None:
    """Run everything and print the table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--malformed", type=int, default=300)
    parser.add_argument("--writes", type=int, default=5)
    parser.add_argument("--works", default="compose,merge,evaluate,train")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    started = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="faults-campaign-"))
    trials = []
    for trial in campaign(options, folder):
        trials.append(trial)
        told = "" if trial.result in RESULTS[:2] else f": {trial.detail}"
        line = f"{len(trials)}. {trial.kind}, {trial.what}: {trial.result}{told}"
        print(line, file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    print(table(trials))
    counts = Counter(trial.result for trial in trials)
    summary = {
        "tried": len(trials),
        "lost": counts["lost"],
        "wrong_success": counts["wrong success"],
        "faults": counts["fault"],
        "seconds": round(time.monotonic() - started),
    }
    print(json.dumps(summary))
    sys.exit(int(bool(summary["lost"] or summary["wrong_success"] or summary["faults"])))


if __name__ == "__main__":
    main()
