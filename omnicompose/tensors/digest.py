"""Hashes of files that are still being written: each grows as far as its tensors are complete."""

import hashlib
import os
import threading
from collections.abc import Iterable, Mapping, Sequence

from omnicompose.tensors.layout import FileLayout
from omnicompose.tensors.writer import Place

CHUNK_BYTES = 1 << 20


class FollowingDigest:
    """A thread that hashes files behind the writers, from the page cache."""

    def __init__(self, files: Sequence[FileLayout], places: Mapping[str, Place]) -> None:
        """Start; nothing is hashed before tensors are reported complete."""
        self._files, self._places = files, places
        self._complete: set[str] = set()
        self._change = threading.Condition()
        self._stopped = False
        self._error: OSError | None = None
        self._hashes: dict[str, str] = {}
        self._thread = threading.Thread(target=self._run, name="digest", daemon=True)
        self._thread.start()

    def complete(self, tensors: Iterable[str]) -> None:
        """Say that all bytes of some tensors are written."""
        with self._change:
            self._complete.update(tensors)
            self._change.notify()

    def stop(self) -> None:
        """Give up, without a result."""
        with self._change:
            self._stopped = True
            self._change.notify()
        self._thread.join()

    def result(self) -> Mapping[str, str]:
        """The sha256 of every file by name, once all tensors are complete.

        Raises:
            OSError: a file could not be read back.
        """
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._hashes

    def _run(self) -> None:
        try:
            for file in self._files:
                running = hashlib.sha256(file.header)
                for tensor in file.offsets:
                    if not self._wait_for(tensor):
                        return
                    self._add(running, self._places[tensor])
                self._hashes[file.name] = running.hexdigest()
        except OSError as error:
            self._error = error

    def _wait_for(self, tensor: str) -> bool:
        with self._change:
            self._change.wait_for(lambda: self._stopped or tensor in self._complete)
            return not self._stopped

    def _add(self, running: "hashlib._Hash", place: Place) -> None:
        for start in range(0, place.num_bytes, CHUNK_BYTES):
            length = min(CHUNK_BYTES, place.num_bytes - start)
            running.update(os.pread(place.descriptor, length, place.offset + start))
