"""What methods may have beside `merge`: compiled loops over tiles of stored numbers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch

from omnicompose.merging.method import MergeContext, Method, ParameterValue


class TileLoop(Protocol):
    """A compiled merge of one tile."""

    def __call__(self, start: int, stored: np.ndarray, out: np.ndarray) -> bool:
        """Fill `out`; whether all of it is finite (it is good for nothing if not).

        Args:
            start: the tile's first element in the flattened tensor.
            stored: `[operand, element]`, the base first; fp32, or bit patterns of
                bf16 (uint16) or fp16 (int16).
            out: `[element]`, of the same dtype.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A tensor that is merged as it lies in files; what `TensorGroup` says of it, but the numbers.

    Attributes:
        name: the tensor's name in the backbone; random methods key on it.
        expert_names: keys of the experts.
        weights: one coefficient per expert, not normalised.
    """

    name: str
    expert_names: tuple[str, ...]
    weights: tuple[float, ...]


class FusedMethod(Method, Protocol):
    """An element-wise method that can also merge without a detour through torch's fp32 tensors.

    A method that observes may have `tile_observer` beside it, with the meaning of `observe`.
    """

    def carries(self, weights: tuple[float, ...], parameters: Mapping[str, ParameterValue]) -> bool:
        """Whether every NaN and infinity of the operands is sure to show in the result."""
        ...

    def tile_loop(self, tensor: Stored, context: MergeContext) -> TileLoop | None:
        """A loop that gives the very bits of `merge`; None if these parameters have none."""
        ...


class Tile(NamedTuple):
    """Where a tile lies: its first element, and the number of elements of the whole tensor."""

    start: int
    size: int


TileObserver = Callable[[Tile, np.ndarray], Mapping[str, torch.Tensor]]
"""Statistics of one tile of stored numbers, `[operand, element]`, the base first."""

MakeTileObserver = Callable[[tuple[str, ...], MergeContext, int], TileObserver | None]
"""(expert names, context, number of the pass) -> a compiled `observe`; None if it has none."""
