"""Children of the fault campaign: forked from a warm process, killed without warning, limited.

A fork spares every trial the ten seconds that imports take. A kill of a child is a real one.
"""

import os
import pickle
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from omnicompose.errors import OmniComposeError

# torch's threads do not outlive a fork: a child would wait for them for ever. Those in which
# transformers loads weights ask for them, too.
torch.set_num_threads(1)
os.environ["HF_DEACTIVATE_ASYNC_LOAD"] = "1"
POLL_SECONDS = 0.01
PATIENCE = 60_000
"""Polls before a child counts as hung: ten minutes, more where this process itself has to wait."""
TELL = os.write
"""As it is now: some trials replace it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a child ended.

    Attributes:
        kind: `done`, `refused` (a clear error), `fault` (another exception), `killed`, `hung`.
        message: of the error.
    """

    kind: str
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """When a child ends without warning.

    Attributes:
        clock: `cpu` counts the child's own work, `wall` also what it waits for (the disk).
        seconds: on that clock.
    """

    clock: str
    seconds: float


def run(work: Callable[[], None], kill: Kill | None = None) -> Outcome:
    """Do `work` in a forked child and say how that ended.

    A timer with its default action ends the process as SIGKILL does: no handler, no `finally`.
    """
    return wait(*start(work, kill))


def start(work: Callable[[], None], kill: Kill | None = None) -> tuple[int, int]:
    """Fork a child that does `work`: its process id, and a pipe that says how it ended."""
    sys.stdout.flush()
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return child, reading
    os.close(reading)
    outcome = Outcome(kind="fault")
    try:
        if kill is not None:
            timer = signal.ITIMER_PROF if kill.clock == "cpu" else signal.ITIMER_REAL
            signal.setitimer(timer, max(kill.seconds, 1e-6))
        work()
        signal.setitimer(signal.ITIMER_REAL, 0)
        outcome = Outcome(kind="done")
    except OmniComposeError as error:
        outcome = Outcome(kind="refused", message=str(error))
    except BaseException:
        outcome = Outcome(kind="fault", message=traceback.format_exc())
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        TELL(writing, pickle.dumps(outcome)[:60_000])
        os._exit(0)


def wait(child: int, reading: int) -> Outcome:
    """How a child ended; one that does not end is killed."""
    for _ in range(PATIENCE):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        time.sleep(POLL_SECONDS)
    else:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reading)
        return Outcome(kind="hung")
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read()
    if os.WIFSIGNALED(status) or not told:
        return Outcome(kind="killed")
    found: Outcome = pickle.loads(told)  # written by this very file, in a child of ours
    return found


def scratch() -> Path:
    """A new empty folder."""
    return Path(tempfile.mkdtemp(prefix="faults-"))


def timed(work: Callable[[], None]) -> tuple[float, float]:
    """CPU and wall seconds of `work`, done in a child.

    Raises:
        RuntimeError: it failed.
    """
    note = scratch() / "times"

    def measured() -> None:
        wall, cpu = time.monotonic(), time.process_time()
        work()
        note.write_text(f"{time.process_time() - cpu} {time.monotonic() - wall}")

    outcome = run(measured)
    if outcome.kind != "done":
        raise RuntimeError(f"{outcome.kind}: {outcome.message}")
    cpu, wall = map(float, note.read_text().split())
    return cpu, wall
