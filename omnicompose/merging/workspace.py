"""Memory of the engine: a budget that is never passed, and buffers that are used again."""

import threading
from collections.abc import Mapping

import torch

from omnicompose.errors import MergeError

Kind = tuple[torch.dtype, bool]
"""A buffer's dtype, and whether it is in the host's memory."""


class MemoryBudget:
    """Bytes that jobs borrow while they run; whoever asks for more than is free waits."""

    def __init__(self, total: int) -> None:
        """Nothing is lent yet."""
        self._total = total
        self._lent = 0
        self._free = threading.Condition()
        self.peak = 0

    def take(self, size: int, stop: threading.Event) -> None:
        """Borrow `size` bytes; wait until they are free or `stop` is set.

        Raises:
            MergeError: more than there is altogether.
        """
        if size > self._total:
            raise MergeError(
                f"found a memory limit of {self._total} bytes; expected at least {size} for one "
                "tensor of this plan. Raise --memory."
            )
        with self._free:
            while self._lent + size > self._total and not stop.is_set():
                self._free.wait(timeout=0.1)
            self._lent += size
            self.peak = max(self.peak, self._lent)

    def give_back(self, size: int) -> None:
        """Return what was borrowed."""
        with self._free:
            self._lent -= size
            self._free.notify_all()


class Workspace:
    """Buffers of one thread, handed out in turn and all free again at `reset`.

    Fresh memory costs a page fault per 4 KiB; the same buffers tile after tile cost none.
    """

    def __init__(self, device: torch.device) -> None:
        """Hold no buffer yet."""
        self._device = device
        self._buffers: dict[Kind, list[torch.Tensor]] = {}
        self._taken: dict[Kind, int] = {}

    def take(self, dtype: torch.dtype, num_elements: int, *, on_host: bool = False) -> torch.Tensor:
        """A 1-D buffer of undefined content, valid until `reset`."""
        kind = (dtype, on_host or self._device.type == "cpu")
        buffers = self._buffers.setdefault(kind, [])
        number = self._taken.get(kind, 0)
        self._taken[kind] = number + 1
        if number == len(buffers):
            buffers.append(self._new(kind, num_elements))
        elif buffers[number].numel() < num_elements:
            buffers[number] = self._new(kind, num_elements)
        found = buffers[number]
        return found if found.numel() == num_elements else found[:num_elements]

    def _new(self, kind: Kind, num_elements: int) -> torch.Tensor:
        dtype, on_host = kind
        if not on_host:
            return torch.empty(num_elements, dtype=dtype, device=self._device)
        return torch.empty(num_elements, dtype=dtype, pin_memory=self._device.type == "cuda")

    def mark(self) -> Mapping[Kind, int]:
        """What is taken now, for `rewind`."""
        return dict(self._taken)

    def rewind(self, mark: Mapping[Kind, int]) -> None:
        """Free again what was taken since the mark."""
        self._taken = dict(mark)

    def reset(self) -> None:
        """Let all buffers be taken again."""
        self._taken.clear()

    def shrink(self, num_elements: int) -> None:
        """Free the buffers that hold more than so many elements."""
        for buffers in self._buffers.values():
            buffers[:] = [buffer for buffer in buffers if buffer.numel() <= num_elements]
        self.reset()
