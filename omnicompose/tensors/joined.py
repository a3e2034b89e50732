"""Several sources that together are one checkpoint, such as an adapter and a projector."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from omnicompose.errors import SourceError
from omnicompose.tensors.low_rank import LowRank
from omnicompose.tensors.source import ByteRange, TensorInfo, TensorSource


class JoinedSource:
    """A `TensorSource` of all tensors of several others."""

    def __init__(self, label: str, sources: Sequence[TensorSource]) -> None:
        """Hold the sources.

        Raises:
            SourceError: two of them have a tensor of one name.
        """
        self._label = label
        self._sources = tuple(sources)
        self._owners: dict[str, TensorSource] = {}
        self._infos: dict[str, TensorInfo] = {}
        for source in self._sources:
            for name, info in source.infos().items():
                if name in self._owners:
                    raise SourceError(
                        f"{label}: found tensor '{name}' in two files; expected every name once. "
                        "Remove the file that does not belong."
                    )
                self._owners[name] = source
                self._infos[name] = info

    @property
    def label(self) -> str:
        """As given."""
        return self._label

    def infos(self) -> Mapping[str, TensorInfo]:
        """Every tensor by name, source after source."""
        return self._infos

    def read_into(self, name: str, start: int, out: torch.Tensor) -> None:
        """Fill `out` from the source that has the tensor."""
        self._owners[name].read_into(name, start, out)

    def byte_range(self, name: str) -> ByteRange | None:
        """The bytes on disk, where its source knows them."""
        return self._owners[name].byte_range(name)

    def factors(self, name: str) -> LowRank | None:
        """The delta, where its source knows it."""
        return self._owners[name].factors(name)

    def scratch_bytes(self, name: str, num_elements: int) -> int:
        """Memory that a read from its source takes."""
        return self._owners[name].scratch_bytes(name, num_elements)

    def files(self) -> tuple[Path, ...]:
        """The files of all sources."""
        return tuple(path for source in self._sources for path in source.files())
