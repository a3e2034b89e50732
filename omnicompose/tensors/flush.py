"""Bring bytes to the disk while others are still computed, so that little is left for the end."""

import os
import threading
from collections.abc import Sequence

INTERVAL_SECONDS = 0.2


class Flusher:
    """A thread that keeps asking the kernel to write out files that have changed."""

    def __init__(self, descriptors: Sequence[int]) -> None:
        """Start; the files must stay open until `finish`."""
        self._descriptors = descriptors
        self._changed: set[int] = set()
        self._finished = threading.Event()
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._run, name="flush", daemon=True)
        self._thread.start()

    def change(self, descriptor: int) -> None:
        """Say that a file has new bytes."""
        self._changed.add(descriptor)

    def finish(self) -> None:
        """Stop the thread and bring every file to the disk.

        Raises:
            OSError: the disk is full or fails.
        """
        self.stop()
        # The kernel tells of a lost write only once, perhaps to the thread.
        if self._error is not None:
            raise self._error
        for descriptor in self._descriptors:
            os.fdatasync(descriptor)

    def stop(self) -> None:
        """Stop the thread; what is not on the disk yet stays in the page cache."""
        self._finished.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._finished.wait(INTERVAL_SECONDS):
                while self._changed and not self._finished.is_set():
                    os.fdatasync(self._changed.pop())
        except OSError as error:
            self._error = error
