"""Read operands into fp32, tile by tile, with an eye on what is not finite."""

import torch

from omnicompose.merging.finite import all_finite, refuse_nonfinite
from omnicompose.merging.job import TensorRef
from omnicompose.merging.workspace import Workspace

MEAN_BLOCK_ELEMENTS = 1 << 16
"""Rows are averaged in blocks of this size whatever the tiles, so that tiles change no byte."""


class Reader:
    """Reads in the buffers of one thread.

    Attributes:
        looks: whether what is read is searched for NaN and infinities.
    """

    def __init__(self, workspace: Workspace, tile_elements: int, device: torch.device) -> None:
        """Read into `workspace`, at most `tile_elements` at a time, for `device`."""
        self._workspace, self._tile_elements = workspace, tile_elements
        self._device = device
        self.looks = False

    def read(self, ref: TensorRef, start: int, count: int) -> torch.Tensor:
        """Elements `start .. start + count`: flat, fp32, on the device.

        Read by tiles, so that a whole tensor is never held in its stored dtype too.
        """
        info = ref.info
        values = self._workspace.take(torch.float32, count)
        direct = info.dtype == torch.float32 and self._device.type == "cpu"
        step = min(self._tile_elements, count)
        if direct and step == count:
            ref.source.read_into(ref.name, ref.start + start, values)
            self._look_at(values, ref, start)
            return values
        # One buffer for all operands: it stays in the cache from the read to the conversion.
        mark = self._workspace.mark()
        stored = None if direct else self._workspace.take(info.dtype, step, on_host=True)
        for position in range(0, count, max(step, 1)):
            part = values[position : position + step]
            piece = part if stored is None else stored[: part.numel()]
            ref.source.read_into(ref.name, ref.start + start + position, piece)
            if stored is not None:
                part.copy_(piece)
            self._look_at(part, ref, start + position)
        self._workspace.rewind(mark)
        return values

    def _look_at(self, values: torch.Tensor, ref: TensorRef, start: int) -> None:
        if self.looks and not all_finite(values):
            refuse_nonfinite(values, ref.info, _where(ref), start)

    def mean_row(self, ref: TensorRef, width: int) -> torch.Tensor:
        """The mean of a table's rows of `width` elements, added up in fp64."""
        rows = ref.info.shape[0]
        step = max(1, MEAN_BLOCK_ELEMENTS // max(width, 1))
        total = torch.zeros(width, dtype=torch.float64, device=self._device)
        for row in range(0, rows, step):
            mark, taken = self._workspace.mark(), min(step, rows - row)
            block = self.read(ref, row * width, taken * width).view(taken, width)
            total += block.sum(dim=0, dtype=torch.float64)
            self._workspace.rewind(mark)
        return (total / max(rows, 1)).to(torch.float32)


def _where(ref: TensorRef) -> str:
    place = ref.source.byte_range(ref.name)
    return ref.source.label if place is None else str(place.path)
