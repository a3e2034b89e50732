"""Tables whose rows are put together from rows of other tables: embeddings, token by token."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from omnicompose.tensors.low_rank import LowRank
from omnicompose.tensors.source import ByteRange, TensorInfo, TensorSource, read_tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsOf:
    """Consecutive rows of a table, from `first` on."""

    source: TensorSource
    name: str
    first: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RowRun:
    """Consecutive rows of the new table: the mean of as many rows of each part.

    Attributes:
        first: index of the first row in the new table.
        num_rows: how many.
        parts: where they come from; mostly one.
    """

    first: int
    num_rows: int
    parts: tuple[RowsOf, ...]


class TableSource:
    """A `TensorSource` that shows another with some tables put together anew, or added."""

    def __init__(
        self,
        source: TensorSource,
        tables: Mapping[str, Sequence[RowRun]],
        files: tuple[Path, ...] = (),
    ) -> None:
        """Show `source`, with `tables` in place of its tensors of these names, or beside them.

        Args:
            source: gives all other tensors.
            tables: runs of rows, each beginning where the one before it ends.
            files: what the choice of rows was read from, for hashing.
        """
        self._source = source
        self._tables = {name: tuple(runs) for name, runs in tables.items()}
        self._more_files = files
        self._infos = {**source.infos(), **{name: self._table_info(name) for name in tables}}

    def _table_info(self, name: str) -> TensorInfo:
        """Its own dtype if every row is one row of that dtype, else fp32."""
        runs = self._tables[name]
        first = runs[0].parts[0]
        info = self._source.infos().get(name) or first.source.infos()[first.name]
        plain = all(len(run.parts) == 1 for run in runs)
        dtypes = {part.source.infos()[part.name].dtype for run in runs for part in run.parts}
        rows = sum(run.num_rows for run in runs)
        return TensorInfo(
            name=name,
            dtype=info.dtype if plain and dtypes == {info.dtype} else torch.float32,
            shape=(rows, *info.shape[1:]),
        )

    @property
    def label(self) -> str:
        """The label of the source beneath."""
        return self._source.label

    def infos(self) -> Mapping[str, TensorInfo]:
        """Every tensor by name, in the order of the source beneath."""
        return self._infos

    def read_into(self, name: str, start: int, out: torch.Tensor) -> None:
        """Fill `out`; every run of rows is one read."""
        if name not in self._tables:
            self._source.read_into(name, start, out)
            return
        for run, first, target in self._pieces(name, start, out):
            if len(run.parts) == 1:
                target.copy_(_read(run.parts[0], first, target.numel()))
            else:
                read = (_read(part, first, target.numel()).float() for part in run.parts)
                target.copy_(torch.stack(tuple(read)).mean(0))

    def _pieces(
        self, name: str, start: int, out: torch.Tensor
    ) -> Iterator[tuple[RowRun, int, torch.Tensor]]:
        """The runs that `out` touches: run, first element inside it, the piece of `out`."""
        info = self._infos[name]
        width = info.num_elements // max(info.shape[0], 1)
        stop = start + out.numel()
        for run in self._tables[name]:
            begin = max(start, run.first * width)
            end = min(stop, (run.first + run.num_rows) * width)
            if begin < end:
                yield run, begin - run.first * width, out[begin - start : end - start]

    def byte_range(self, name: str) -> ByteRange | None:
        """The bytes of a tensor that is no table."""
        return None if name in self._tables else self._source.byte_range(name)

    def factors(self, name: str) -> LowRank | None:
        """The delta of a tensor that is no table."""
        return None if name in self._tables else self._source.factors(name)

    def scratch_bytes(self, name: str, num_elements: int) -> int:
        """What is read of each part before it goes into `out`."""
        if name not in self._tables:
            return self._source.scratch_bytes(name, num_elements)
        most = max((len(run.parts) for run in self._tables[name]), default=1)
        inner = [
            part.source.scratch_bytes(part.name, num_elements)
            for run in self._tables[name]
            for part in run.parts
        ]
        return 8 * num_elements * (most + 1) + max(inner, default=0)

    def files(self) -> tuple[Path, ...]:
        """The files of all sources, and those that the choice of rows was read from."""
        parts = (p.source for runs in self._tables.values() for run in runs for p in run.parts)
        every = (path for source in (self._source, *parts) for path in source.files())
        return (*dict.fromkeys(every), *self._more_files)


def _read(part: RowsOf, first: int, count: int) -> torch.Tensor:
    info = part.source.infos()[part.name]
    start = part.first * (info.num_elements // info.shape[0]) + first
    return read_tensor(part.source, part.name, start, start + count)
