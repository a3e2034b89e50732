"""Outputs that are put together from pieces: rows of tables, ranks of factors."""

from collections.abc import Callable

import torch

from omnicompose.merging.job import Factors, Fill, Node, Rows
from omnicompose.merging.reading import Reader
from omnicompose.merging.workspace import Workspace


class Joiner:
    """Joins the pieces of one job at a time, in the buffers of one thread."""

    def __init__(
        self,
        workspace: Workspace,
        reader: Reader,
        evaluate: Callable[[Node, int, int], torch.Tensor],
    ) -> None:
        """Join what `evaluate(node, start, count)` gives, flat and fp32, into `workspace`."""
        self._workspace, self._reader, self._evaluate = workspace, reader, evaluate
        self._mean_rows: dict[int, torch.Tensor] = {}

    def forget(self) -> None:
        """Drop the mean rows of the job before."""
        self._mean_rows.clear()

    def rows(self, job: Rows, start: int, count: int) -> torch.Tensor:
        """Rows of pieces, one after the other: elements `start .. start + count`, flat fp32."""
        values = self._workspace.take(torch.float32, count)
        width = job.output.num_elements // max(job.output.shape[0], 1)
        first = 0
        for piece in job.pieces:
            rows = piece.num_rows if isinstance(piece, Fill) else piece.info.shape[0]
            begin, end = max(start, first), min(start + count, first + rows * width)
            if begin < end:
                target = values[begin - start : end - start]
                mark = self._workspace.mark()
                if isinstance(piece, Fill):
                    self._fill(target, piece, begin - first, width)
                else:
                    target.copy_(self._evaluate(piece, begin - first, end - begin))
                self._workspace.rewind(mark)
            first += rows * width
        return values

    def _fill(self, target: torch.Tensor, fill: Fill, start: int, width: int) -> None:
        if fill.mean_of is None:
            target.zero_()
            return
        row = self._mean_rows.get(id(fill))
        if row is None:
            row = self._mean_rows[id(fill)] = self._reader.mean_row(fill.mean_of, width)
        columns = torch.arange(start, start + target.numel(), device=row.device) % width
        target.copy_(row[columns])

    def factors(self, job: Factors) -> torch.Tensor:
        """Low-rank factors side by side, the ranks that nobody fills 0; flat fp32."""
        values = self._workspace.take(torch.float32, job.output.num_elements)
        target, first = values.view(job.output.shape), 0
        for piece in job.pieces:
            mark, info = self._workspace.mark(), piece.tensor.info
            factor = self._reader.read(piece.tensor, 0, info.num_elements).view(info.shape)
            rank = info.shape[job.axis]
            torch.mul(factor, piece.scale, out=target.narrow(job.axis, first, rank))
            first += rank
            self._workspace.rewind(mark)
        target.narrow(job.axis, first, target.shape[job.axis] - first).zero_()
        return values
