"""One output file: all its space from the start, written by position from any thread."""

import ctypes
import errno
import os
from pathlib import Path

from omnicompose.tensors.layout import FileLayout
from omnicompose.tensors.pieces import LEAST_KEPT_BYTES, PAGE_BYTES

_NOT_DIRECT = (errno.EINVAL, errno.EOPNOTSUPP)
"""What filesystems say that have no direct writes."""


class OutputFile:
    """An open file that is as long as it will be.

    Large pieces go past the page cache, which saves the processor a copy and the end of the run
    the wait for the disk. Where the filesystem, or the piece's place in memory, does not allow
    it, they go through the page cache; readers see the same bytes either way.
    """

    def __init__(self, path: Path, layout: FileLayout, *, direct: bool = True) -> None:
        """Open a file with all its space and its header; what it holds already is kept.

        Args:
            path: of the file.
            layout: its header and its size.
            direct: whether a second descriptor may be spent on writes past the page cache.

        Raises:
            OSError: the disk is full or fails.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self.descriptor = os.open(path, flags, 0o644)
        self._direct: int | None = None
        try:
            os.ftruncate(self.descriptor, layout.num_bytes)
            os.posix_fallocate(self.descriptor, 0, layout.num_bytes)
            write_all(self.descriptor, memoryview(layout.header), 0)
            self._direct = _open_direct(path) if direct else None
        except OSError:
            self.close()
            raise
        self._goes_direct = self._direct is not None

    def write(self, data: memoryview, offset: int) -> None:
        """Hand bytes to the kernel.

        Args:
            data: writable memory; `Pieces` aligns it as its place in the file.
            offset: of its first byte.

        Raises:
            OSError: the disk is full or fails.
        """
        first = -offset % PAGE_BYTES
        last = len(data) - (offset + len(data)) % PAGE_BYTES
        if last - first >= LEAST_KEPT_BYTES and (_address(data) - offset) % PAGE_BYTES == 0:
            write_all(self.descriptor, data[:first], offset)
            first += self._write_direct(data[first:last], offset + first)
            write_all(self.descriptor, data[first:], offset + first)
        else:
            write_all(self.descriptor, data, offset)

    def _write_direct(self, data: memoryview, offset: int) -> int:
        """How many bytes could be written past the page cache."""
        if not self._goes_direct:
            return 0
        assert self._direct is not None
        try:
            return os.pwrite(self._direct, data, offset)
        except OSError as error:
            if error.errno not in _NOT_DIRECT:
                raise
            # The filesystem takes the flag, but not such a write.
            self._goes_direct = False
            return 0

    def sync(self) -> None:
        """Bring every byte to the disk.

        Raises:
            OSError: the disk is full or fails.
        """
        os.fdatasync(self.descriptor)

    def close(self) -> None:
        """Close the file."""
        os.close(self.descriptor)
        if self._direct is not None:
            os.close(self._direct)


def write_all(descriptor: int, data: memoryview, offset: int) -> None:
    """Write by position, however little the kernel takes at a time.

    Raises:
        OSError: the disk is full or fails.
    """
    done = 0
    while done < len(data):
        done += os.pwrite(descriptor, data[done:], offset + done)


def _open_direct(path: Path) -> int | None:
    try:
        return os.open(path, os.O_WRONLY | os.O_DIRECT | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno not in _NOT_DIRECT:
            raise
        return None


def _address(data: memoryview) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(data))
