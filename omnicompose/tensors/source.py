"""What every tensor source offers: facts from headers at once, elements when asked for."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Protocol

import torch

from omnicompose.errors import SourceError
from omnicompose.tensors.low_rank import LowRank


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorInfo:
    """What is known of a tensor before any of it is read.

    Attributes:
        name: its name in its source, or in the output.
        dtype: of the elements that `read_into` gives, or that are written.
        shape: sizes, outermost first; `()` for a scalar.
    """

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def num_elements(self) -> int:
        """Elements of the whole tensor."""
        return prod(self.shape)

    @property
    def num_bytes(self) -> int:
        """Bytes of the whole tensor."""
        return self.num_elements * self.dtype.itemsize


@dataclass(frozen=True, slots=True, kw_only=True)
class ByteRange:
    """Bytes on disk that are exactly one tensor, contiguous and little-endian.

    Attributes:
        path: the file.
        offset: of the first byte, from the start of the file.
        length: number of bytes.
    """

    path: Path
    offset: int
    length: int


class TensorSource(Protocol):
    """Named tensors that are read piece by piece, from any thread."""

    @property
    def label(self) -> str:
        """How error messages and plans call it."""
        ...

    def infos(self) -> Mapping[str, TensorInfo]:
        """Every tensor by name, in the order of the file; known from headers alone."""
        ...

    def read_into(self, name: str, start: int, out: torch.Tensor) -> None:
        """Fill `out` with the elements `start .. start + out.numel()` of the flattened tensor.

        Args:
            name: the tensor.
            start: flat index of the first element.
            out: contiguous 1-D CPU tensor of the dtype that `infos()` states.

        Raises:
            SourceError: the bytes cannot be read.
        """
        ...

    def byte_range(self, name: str) -> ByteRange | None:
        """The bytes on disk that are exactly this tensor; None if it is computed."""
        ...

    def factors(self, name: str) -> LowRank | None:
        """Its delta to the base as low-rank factors (fp32), where the source knows it so."""
        ...

    def scratch_bytes(self, name: str, num_elements: int) -> int:
        """Memory that `read_into` of so many elements takes beyond `out`."""
        ...

    def files(self) -> tuple[Path, ...]:
        """Every file that the elements come from, for hashing."""
        ...


def tensor_info(source: TensorSource, name: str) -> TensorInfo:
    """The facts of one tensor.

    Raises:
        SourceError: the source has no tensor of that name.
    """
    info = source.infos().get(name)
    if info is None:
        raise SourceError(
            f"{source.label}: no tensor '{name}' among its {len(source.infos())} tensors. "
            "Run `omnicompose inspect` on it to see their names."
        )
    return info


def read_tensor(
    source: TensorSource, name: str, start: int = 0, stop: int | None = None
) -> torch.Tensor:
    """Elements `start .. stop` of a tensor as stored; the whole tensor, in shape, by default."""
    info = tensor_info(source, name)
    whole = start == 0 and stop is None
    last = info.num_elements if stop is None else stop
    out = torch.empty(last - start, dtype=info.dtype)
    source.read_into(name, start, out)
    return out.reshape(info.shape) if whole else out


def tensor_bytes(tensor: torch.Tensor) -> memoryview:
    """The memory of a contiguous 1-D CPU tensor as bytes, without a copy."""
    return tensor.view(torch.uint8).numpy().data
