"""The policy on NaN and infinities: refused, with the place of the first one."""

import math
from typing import NoReturn

import torch

from omnicompose.errors import MergeError
from omnicompose.tensors.source import TensorInfo


def all_finite(values: torch.Tensor) -> bool:
    """Whether a tile holds neither a NaN nor an infinity."""
    # One sum is far cheaper than a test per element; it is not finite if any element is not.
    # It may overflow over finite elements, so the slow test has the last word.
    return math.isfinite(float(values.sum())) or bool(torch.isfinite(values).all())


def refuse_nonfinite(values: torch.Tensor, info: TensorInfo, where: str, start: int) -> NoReturn:
    """Refuse a tile that `all_finite` does not pass.

    Args:
        values: flat tile, floating point.
        info: of the whole tensor.
        where: the file or source it is from.
        start: flat index of the tile's first element.

    Raises:
        MergeError: naming tensor, file, value and index.
    """
    first = int((~torch.isfinite(values)).nonzero()[0])
    rounded = " in float32, which merging computes in," if info.dtype == torch.float64 else ""
    raise MergeError(
        f"{where}: tensor '{info.name}': found {float(values[first])}{rounded} at index "
        f"{index_in(info.shape, start + first)}; expected finite numbers. "
        "Mend the input or the parameters, or let them pass with `allow_nonfinite: true` "
        "(--allow-nonfinite)."
    )


def check_rounding(rounded: torch.Tensor, info: TensorInfo, start: int) -> None:
    """Refuse a tile that became infinite only by rounding to the output's dtype.

    Raises:
        MergeError: naming tensor, dtype and index.
    """
    values = rounded if rounded.itemsize > 1 else rounded.to(torch.float32)
    if not all_finite(values):
        bad = (~torch.isfinite(values)).nonzero()
        raise MergeError(
            f"output tensor '{info.name}': found a value beyond the range of {info.dtype} at index "
            f"{index_in(info.shape, start + int(bad[0]))}; expected values within it. "
            "Choose dtype: bfloat16 or float32 in the recipe."
        )


def index_in(shape: tuple[int, ...], flat: int) -> list[int]:
    """The index along every axis of a flat index."""
    index: list[int] = []
    for size in reversed(shape):
        flat, position = divmod(flat, size)
        index.insert(0, position)
    return index
