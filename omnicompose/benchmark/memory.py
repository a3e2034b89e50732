"""How much memory a piece of work took: what the process held at most, over what it held before."""

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

STATM = Path("/proc/self/statm")
INTERVAL_SECONDS = 0.002


class Peak:
    """The most bytes of anonymous memory since the start; files that are mapped do not count."""

    def __init__(self) -> None:
        """Start from what is held now."""
        self._start = self._most = held_bytes()

    @property
    def bytes(self) -> int:
        """More than at the start; 0 where the system does not tell."""
        return self._most - self._start

    def look(self) -> None:
        """Note what is held now."""
        self._most = max(self._most, held_bytes())


def held_bytes() -> int:
    """Anonymous memory of this process; 0 where the system does not tell."""
    if not STATM.is_file():
        return 0
    _, resident, shared, *_ = STATM.read_text(encoding="ascii").split()
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def watching() -> Iterator[Peak]:
    """Look at what is held every two milliseconds; what earlier work left behind is freed first."""
    _give_back()
    peak, done = Peak(), threading.Event()

    def watch() -> None:
        while not done.wait(INTERVAL_SECONDS):
            peak.look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        peak.look()
        done.set()
        thread.join()


def _give_back() -> None:
    """Free memory that glibc keeps for later: what it keeps would hide what is used of it."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
