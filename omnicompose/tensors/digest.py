"""Hashes of files that are still being written: each grows as far as its tensors are complete.

Every byte is hashed once. What a file hashes to so far also marks how far it is complete, which is
all that an interrupted run needs to go on.
"""

import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice

from omnicompose.tensors.journal import Mark
from omnicompose.tensors.layout import FileLayout

CHUNK_BYTES = 1 << 18
"""Read and hashed at once: small enough to stay in a processor's cache in between."""
MOST_AT_ONCE = 64
MARK_BYTES = 1 << 28
"""A file that grows without a pause is marked after so many bytes."""


class FileDigest:
    """The running hash of one file, from its start to the end of some of its tensors.

    Attributes:
        file: its layout.
        num_tensors: how many of its tensors are hashed.
        num_marked: how many of them a mark tells of.
        bytes_hashed: where the next tensor begins.
        bytes_marked: where it began at the last mark.
    """

    def __init__(self, file: FileLayout, descriptor: int) -> None:
        """Hash the header, as it was laid out.

        Args:
            file: its layout.
            descriptor: of the open file.
        """
        self.file, self._descriptor = file, descriptor
        self.num_tensors = self.num_marked = 0
        self.bytes_hashed = self.bytes_marked = len(file.header)
        self._hash = hashlib.sha256(file.header)
        self._ends = (*islice(file.offsets.values(), 1, None), file.num_bytes)

    def restarted(self) -> "FileDigest":
        """The digest of the same file with no tensor hashed."""
        return FileDigest(self.file, self._descriptor)

    def grow(self, num_tensors: int) -> None:
        """Hash on, from the page cache, to the end of the first so many tensors.

        Raises:
            OSError: the file cannot be read back.
        """
        end = self._ends[num_tensors - 1]
        chunk = memoryview(bytearray(min(CHUNK_BYTES, end - self.bytes_hashed)))
        while self.bytes_hashed < end:
            room = chunk[: end - self.bytes_hashed]
            num_read = os.preadv(self._descriptor, [room], self.bytes_hashed)
            if not num_read:
                raise OSError(f"{self.file.name} has become shorter")
            self._hash.update(chunk[:num_read])
            self.bytes_hashed += num_read
        self.num_tensors = num_tensors

    def mark(self) -> Mark:
        """How far the file is complete."""
        self.num_marked, self.bytes_marked = self.num_tensors, self.bytes_hashed
        sha256 = self._hash.copy().hexdigest()
        return Mark(file=self.file.name, num_tensors=self.num_tensors, sha256=sha256)


def as_marked(digest: FileDigest, marks: Mapping[int, str]) -> FileDigest:
    """The digest grown over all tensors that marks vouch for.

    Args:
        digest: of a file, nothing hashed yet.
        marks: sha256 by number of tensors.

    Returns:
        A digest that ends where the last mark that holds ends.
    """
    grown, intact = digest.restarted(), 0
    for num_tensors in sorted(marks):
        if num_tensors <= len(digest.file.offsets):
            grown.grow(num_tensors)
        if grown.num_tensors != num_tensors or grown.mark().sha256 != marks[num_tensors]:
            break
        intact = num_tensors
    if grown.num_tensors == intact:
        return grown
    return as_marked(digest, {number: marks[number] for number in marks if number <= intact})


class FollowingDigest:
    """A thread that hashes files behind the writers, from the page cache."""

    def __init__(self, digests: Sequence[FileDigest], note: Callable[[Mark], None]) -> None:
        """Start; nothing more is hashed before tensors are reported complete.

        Args:
            digests: one per file, in order, each as far as it is hashed already.
            note: called with every mark, from the thread.
        """
        self._digests, self._note = digests, note
        self._complete: set[str] = set()
        self._change = threading.Condition()
        self._stopped = False
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._run, name="digest", daemon=True)
        self._thread.start()

    def complete(self, tensors: Iterable[str]) -> None:
        """Say that all bytes of some tensors are written."""
        with self._change:
            self._complete.update(tensors)
            self._change.notify()

    def stop(self) -> None:
        """Mark what is complete, and no more."""
        with self._change:
            self._stopped = True
            self._change.notify()
        self._thread.join()

    def result(self) -> Mapping[str, str]:
        """The sha256 of every file by name, once all tensors are complete.

        Raises:
            OSError: a file could not be read back, or a mark not be noted.
        """
        self._thread.join()
        if self._error is not None:
            raise self._error
        return {digest.file.name: digest.mark().sha256 for digest in self._digests}

    def _run(self) -> None:
        try:
            for digest in self._digests:
                if not self._follow(digest):
                    return
        except OSError as error:
            self._error = error

    def _follow(self, digest: FileDigest) -> bool:
        """Hash a file to its end, or until told to stop."""
        names = tuple(digest.file.offsets)
        while digest.num_tensors < len(names):
            ready = self._ready(names, digest.num_tensors)
            if ready == digest.num_tensors:
                self._mark(digest)
                if not self._wait_for(names[ready]):
                    return False
                continue
            digest.grow(ready)
            if digest.bytes_hashed - digest.bytes_marked >= MARK_BYTES:
                self._mark(digest)
        self._mark(digest)
        return True

    def _mark(self, digest: FileDigest) -> None:
        if digest.num_marked < digest.num_tensors:
            self._note(digest.mark())

    def _ready(self, names: Sequence[str], first: int) -> int:
        """How many tensors are complete without a gap; a few, so that marks come in time."""
        with self._change:
            last = min(first + MOST_AT_ONCE, len(names))
            gap = (i for i in range(first, last) if names[i] not in self._complete)
            return next(gap, last)

    def _wait_for(self, tensor: str) -> bool:
        with self._change:
            self._change.wait_for(lambda: self._stopped or tensor in self._complete)
            return tensor in self._complete
