"""Hashes of files that are still being written: each grows as far as its bytes are complete.

Every byte is hashed once, from the memory it was written from while it is still there. What a file
hashes to so far also marks how far it is complete, which is all that an interrupted run needs.
"""

import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice

import torch

from omnicompose.tensors.journal import Mark
from omnicompose.tensors.layout import FileLayout
from omnicompose.tensors.pieces import Piece, Pieces

CHUNK_BYTES = 1 << 18
"""Read and hashed at once: small enough to stay in a processor's cache in between."""
MOST_AT_ONCE = 64
MARK_BYTES = 1 << 28
"""A file that grows without a pause is marked after so many bytes."""
WAIT_SECONDS = 0.2


class FileDigest:
    """The running hash of one file, from its start to the end of some of its tensors.

    Attributes:
        file: its layout.
        num_tensors: how many of its tensors are complete and hashed.
        num_marked: how many of them a mark tells of.
        bytes_hashed: how far the file is hashed; perhaps into the next tensor.
        bytes_marked: how far it was at the last mark.
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
        self._complete = self._hash.copy()
        self._ends = (*islice(file.offsets.values(), 1, None), file.num_bytes)
        self._chunk = memoryview(bytearray(min(CHUNK_BYTES, file.num_bytes)))

    def restarted(self) -> "FileDigest":
        """The digest of the same file with no tensor hashed."""
        return FileDigest(self.file, self._descriptor)

    def end_of(self, num_tensors: int) -> int:
        """Where the first so many tensors end in the file."""
        return self._ends[num_tensors - 1] if num_tensors else len(self.file.header)

    def add(self, data: memoryview) -> None:
        """Hash the bytes that come next in the file."""
        self._hash.update(data)
        self.bytes_hashed += len(data)

    def add_read(self, end: int) -> None:
        """Hash some of the bytes up to `end`, as they are in the file.

        Raises:
            OSError: the file cannot be read back.
        """
        room = self._chunk[: end - self.bytes_hashed]
        num_read = os.preadv(self._descriptor, [room], self.bytes_hashed)
        if not num_read:
            raise OSError(f"{self.file.name} has become shorter")
        self.add(room[:num_read])

    def reach(self, num_tensors: int) -> None:
        """Take the first so many tensors as complete: just what is hashed by now."""
        assert self.bytes_hashed == self.end_of(num_tensors)
        self.num_tensors, self._complete = num_tensors, self._hash.copy()

    def grow(self, num_tensors: int) -> None:
        """Hash on, as the file is, to the end of the first so many tensors.

        Raises:
            OSError: the file cannot be read back.
        """
        while self.bytes_hashed < self.end_of(num_tensors):
            self.add_read(self.end_of(num_tensors))
        self.reach(num_tensors)

    def mark(self) -> Mark:
        """How far the file is complete."""
        self.num_marked, self.bytes_marked = self.num_tensors, self.bytes_hashed
        sha256 = self._complete.hexdigest()
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
    """A thread that hashes files behind the writers, while their pieces are still in memory."""

    def __init__(
        self, digests: Sequence[FileDigest], note: Callable[[Mark], None], pieces: Pieces
    ) -> None:
        """Start; nothing is hashed before pieces are written or tensors reported complete.

        Args:
            digests: one per file, in order, each as far as it is hashed already.
            note: called with every mark, from the thread.
            pieces: the buffers of all writers.
        """
        self._digests, self._note, self._pieces = digests, note, pieces
        self._complete: set[str] = set()
        self._change = threading.Condition()
        self._idle = self._stopped = False
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._run, name="digest", daemon=True)
        self._thread.start()

    @contextmanager
    def piece(self, file: int, offset: int, dtype: torch.dtype, count: int) -> Iterator[Piece]:
        """A piece to fill and to write; what is written is kept to be hashed.

        Waits for the hash while as many are kept as may be: nobody runs far ahead of it.
        """
        piece = self._take(file, offset, dtype, count)
        is_written = False
        try:
            yield piece
            is_written = True
        finally:
            with self._change:
                if is_written and self._pieces.is_worth_keeping(piece):
                    self._wait_until(lambda: not self._pieces.is_full)
                self._pieces.put_back(piece, keep=is_written)
                self._idle = False
                self._change.notify_all()

    def _take(self, file: int, offset: int, dtype: torch.dtype, count: int) -> Piece:
        with self._change:
            self._wait_until(lambda: self._pieces.num_free > 0)
            piece = self._pieces.take(file, offset, dtype, count)
            assert piece is not None, "one was free"
            return piece

    def _wait_until(self, has_room: Callable[[], bool]) -> None:
        """Wait for the hash to pass pieces; if it is idle or gone, drop those that come last."""
        while not has_room():
            if self._idle or not self._thread.is_alive():
                # It waits for bytes that this very thread may be the one to write.
                self._pieces.drop()
            if not has_room():
                self._change.wait(WAIT_SECONDS)

    def complete(self, tensors: Iterable[str]) -> None:
        """Say that all bytes of some tensors are written."""
        with self._change:
            self._complete.update(tensors)
            self._idle = False
            self._change.notify_all()

    def stop(self) -> None:
        """Mark what is complete, and no more."""
        with self._change:
            self._stopped = True
            self._change.notify_all()
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
            for number, digest in enumerate(self._digests):
                if not self._follow(number, digest):
                    return
        except OSError as error:
            self._error = error

    def _follow(self, number: int, digest: FileDigest) -> bool:
        """Hash a file to its end, or until told to stop."""
        names = tuple(digest.file.offsets)
        while digest.num_tensors < len(names):
            first = digest.num_tensors
            ready = self._ready(names, first)
            # A tensor that is not complete yet is hashed as far as its pieces are.
            end = digest.end_of(max(ready, first + 1))
            data = self._find(number, digest.bytes_hashed)
            if data is not None and digest.bytes_hashed < end:
                digest.add(data[: end - digest.bytes_hashed])
            elif digest.bytes_hashed < digest.end_of(ready):
                digest.add_read(end)
            elif ready > first:
                digest.reach(ready)
                if digest.bytes_hashed - digest.bytes_marked >= MARK_BYTES:
                    self._mark(digest)
            else:
                self._mark(digest)
                if not self._wait(number, digest, names[first]):
                    return False
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

    def _find(self, number: int, position: int) -> memoryview | None:
        with self._change:
            data = self._pieces.find(number, position)
            self._change.notify_all()
            return data

    def _wait(self, number: int, digest: FileDigest, tensor: str) -> bool:
        """Wait for the next bytes of a file; whether it is worth going on."""
        with self._change:
            while not (found := tensor in self._complete or self._more(number, digest)):
                if self._stopped:
                    break
                self._idle = True
                self._change.notify_all()
                self._change.wait()
            self._idle = False
            return found

    def _more(self, number: int, digest: FileDigest) -> bool:
        """Whether some of the next tensor, which is not complete, can be hashed."""
        position = digest.bytes_hashed
        if position == digest.end_of(digest.num_tensors + 1):
            return False
        return self._pieces.find(number, position) is not None
