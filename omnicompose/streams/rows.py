"""Some rows of a flattened batch: taken without a copy where they follow one another."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Rows of tensors `[B * L, width]`.

    Attributes:
        index: `[n]` int64, which ones.
        stretch: the same as a slice, where they are known to follow one another without a gap.
    """

    index: torch.Tensor
    stretch: slice | None = None

    def take(self, values: torch.Tensor) -> torch.Tensor:
        """The rows `[n, width]`: a view where they are one stretch."""
        if self.stretch is not None:
            return values[self.stretch]
        return values.index_select(0, self.index)

    def put(self, values: torch.Tensor, new: torch.Tensor) -> None:
        """Replace the rows in place."""
        if self.stretch is not None:
            values[self.stretch] = new
        else:
            values.index_copy_(0, self.index, new)

    def add(self, values: torch.Tensor, new: torch.Tensor) -> None:
        """Add to the rows in place."""
        if self.stretch is not None:
            values[self.stretch].add_(new)
        else:
            values.index_add_(0, self.index, new)


def stretch_of(index: torch.Tensor) -> slice | None:
    """Ascending indices on the host as a slice, if there is no gap between them."""
    if not index.numel():
        return None
    first, last = int(index[0]), int(index[-1])
    return slice(first, last + 1) if last - first + 1 == index.numel() else None
