"""Pieces of output files in memory: filled, written, and kept for a while to be hashed.

What has just been written need not be read back if its buffer is still there. The buffers are few
and made once; when too many wait, the piece that will be hashed last is let go.
"""

import mmap
from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch

from omnicompose.tensors.source import tensor_bytes

PAGE_BYTES = max(1 << 12, mmap.PAGESIZE)
"""Memory and files are aligned to this where a write goes past the page cache."""
PIECE_BYTES = 1 << 21
"""Of a buffer, and so of a piece at most: with its operands it stays in the last cache."""
LEAST_KEPT_BYTES = 1 << 16
"""Less is written through the page cache and hashed from there, many small pieces at once."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Piece:
    """Some bytes of a file, in memory.

    Attributes:
        file: number of the file.
        offset: of the first byte, from the start of the file.
        values: what the bytes are, 1-D and in their dtype; part of a buffer.
        buffer: number of the buffer.
    """

    file: int
    offset: int
    values: torch.Tensor = field(compare=False)
    buffer: int = field(compare=False)

    @property
    def data(self) -> memoryview:
        """The bytes themselves."""
        return tensor_bytes(self.values)

    @property
    def end(self) -> int:
        """Where the next piece of the file begins."""
        return self.offset + self.values.nbytes


class Pieces:
    """A fixed number of buffers and the pieces in them; whoever shares them locks."""

    def __init__(
        self, num_buffers: int, *, most_kept: int | None = None, pinned: bool = False
    ) -> None:
        """Reserve memory; the system gives it when it is first written to.

        Args:
            num_buffers: of `PIECE_BYTES` each.
            most_kept: pieces that are kept to be hashed at a time; None: as many as buffers.
            pinned: let a GPU copy straight into it.
        """
        room = num_buffers * PIECE_BYTES
        memory = torch.empty(room + PAGE_BYTES, dtype=torch.uint8, pin_memory=pinned)
        skipped = -memory.data_ptr() % PAGE_BYTES
        self._buffers = memory[skipped : skipped + room].view(num_buffers, PIECE_BYTES).unbind()
        self._free = list(range(num_buffers))
        self._kept: list[Piece] = []
        self._most_kept = num_buffers if most_kept is None else most_kept

    def take(self, file: int, offset: int, dtype: torch.dtype, count: int) -> Piece | None:
        """A piece to be filled; None if no buffer is free.

        Memory and file are aligned alike where the dtype allows it.

        Args:
            file: number of the file.
            offset: of the first byte.
            dtype: of the values.
            count: number of values, as `cuts` gives it.
        """
        if not self._free:
            return None
        # The one that was used last is still in the processor's cache.
        number = self._free.pop()
        skipped = offset % PAGE_BYTES
        size = count * dtype.itemsize
        if skipped % dtype.itemsize or skipped + size > PIECE_BYTES:
            skipped = 0
        values = self._buffers[number][skipped : skipped + size].view(dtype)
        return Piece(file=file, offset=offset, values=values, buffer=number)

    @property
    def num_free(self) -> int:
        """How many buffers can be taken."""
        return len(self._free)

    def is_worth_keeping(self, piece: Piece) -> bool:
        """Whether it is hashed from memory, if there is room for it."""
        return self._most_kept > 0 and piece.values.nbytes >= LEAST_KEPT_BYTES

    @property
    def is_full(self) -> bool:
        """Whether no further piece may be kept."""
        return len(self._kept) >= self._most_kept

    def put_back(self, piece: Piece, *, keep: bool) -> None:
        """End the filling of a piece; its buffer is free again unless it is kept to be hashed."""
        if keep and self.is_worth_keeping(piece):
            insort(self._kept, piece)
        else:
            self._free.append(piece.buffer)

    def find(self, file: int, position: int) -> memoryview | None:
        """The bytes from a position on, as far as a piece holds them.

        Every piece that ends before is let go: files are hashed in order.
        """
        while self._kept and (self._kept[0].file, self._kept[0].end) <= (file, position):
            self._free.append(self._kept.pop(0).buffer)
        if not self._kept or (self._kept[0].file, self._kept[0].offset) > (file, position):
            return None
        return self._kept[0].data[position - self._kept[0].offset :]

    def drop(self) -> None:
        """Let the piece go that would be hashed last; it can be read back."""
        if self._kept:
            self._free.append(self._kept.pop().buffer)


def cuts(offset: int, size: int, itemsize: int, most: int) -> Sequence[tuple[int, int]]:
    """Cut the elements of a tensor: first and number of each part.

    All inner cuts lie on pages of the file where they can.

    Args:
        offset: of the tensor's first byte in the file.
        size: elements of the tensor.
        itemsize: bytes of each.
        most: elements of a part at most.
    """
    step = most - most % (PAGE_BYTES // itemsize) if most * itemsize >= PAGE_BYTES else most
    first = step - offset % PAGE_BYTES // itemsize
    bounds = (0, *range(first if first > 0 else step, size, step), size)
    return [(start, end - start) for start, end in pairwise(bounds)]
