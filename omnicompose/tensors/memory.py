"""Tensors that are already in memory as a source: unpickled weights, and tests."""

from collections.abc import Mapping
from pathlib import Path

import torch

from omnicompose.tensors.low_rank import LowRank
from omnicompose.tensors.source import ByteRange, TensorInfo


class MemorySource:
    """A `TensorSource` over a dict of tensors."""

    def __init__(
        self, label: str, tensors: Mapping[str, torch.Tensor], files: tuple[Path, ...] = ()
    ) -> None:
        """Hold the tensors; `files` are where they came from."""
        self._label = label
        self._tensors = {
            name: tensor.detach().cpu().reshape(-1) for name, tensor in tensors.items()
        }
        self._infos = {
            name: TensorInfo(name=name, dtype=tensor.dtype, shape=tuple(tensor.shape))
            for name, tensor in tensors.items()
        }
        self._files = files

    @property
    def label(self) -> str:
        """As given."""
        return self._label

    def infos(self) -> Mapping[str, TensorInfo]:
        """Every tensor by name, in the order given."""
        return self._infos

    def read_into(self, name: str, start: int, out: torch.Tensor) -> None:
        """Copy elements from `start` on into `out`."""
        out.copy_(self._tensors[name][start : start + out.numel()])

    def byte_range(self, name: str) -> ByteRange | None:
        """None: the bytes are not on disk as they are here."""
        return None

    def factors(self, name: str) -> LowRank | None:
        """None: plain tensors know no base."""
        return None

    def scratch_bytes(self, name: str, num_elements: int) -> int:
        """Nothing beyond `out`."""
        return 0

    def files(self) -> tuple[Path, ...]:
        """Where the tensors came from."""
        return self._files
