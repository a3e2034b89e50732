"""A base with a LoRA applied: `base + scale * B @ A`, formed row block by row block when read."""

from collections.abc import Mapping
from pathlib import Path

import torch

from omnicompose.errors import SourceError
from omnicompose.tensors.adapter import LoraAdapter
from omnicompose.tensors.low_rank import LowRank
from omnicompose.tensors.source import ByteRange, TensorInfo, TensorSource, tensor_info

BLOCK_ELEMENTS = 1 << 16
"""Products are formed in blocks of whole rows of about this size, always the same ones: a matrix
product may round differently for another number of rows, and tiles must not change bytes."""


class PatchedSource:
    """A `TensorSource`: tensors with a delta are fp32 sums, all others are those of the base."""

    def __init__(self, base: TensorSource, adapter: LoraAdapter, label: str | None = None) -> None:
        """Hold the adapter against its base.

        Raises:
            SourceError: the adapter has a tensor that matches none of the base, by name or shape.
        """
        self._label = label or f"{base.label}+{adapter.label}"
        self._base, self._adapter = base, adapter
        _check_targets(base, adapter)
        self._infos = {name: self._info(name) for name in base.infos()}

    def _info(self, name: str) -> TensorInfo:
        own = self._adapter.replacements.get(name)
        whole = self._adapter.weights.infos()[own] if own else self._base.infos()[name]
        dtype = torch.float32 if name in self._adapter.deltas else whole.dtype
        return TensorInfo(name=name, dtype=dtype, shape=whole.shape)

    @property
    def label(self) -> str:
        """Base and adapter."""
        return self._label

    def infos(self) -> Mapping[str, TensorInfo]:
        """The base's tensors; fp32 where the adapter adds a product."""
        return self._infos

    def read_into(self, name: str, start: int, out: torch.Tensor) -> None:
        """Fill `out`; of a product only the row blocks that are needed are formed."""
        source, inner = self._whole(name)
        delta = self._adapter.factors(name)
        if delta is None:
            source.read_into(inner, start, out)
            return
        stored = torch.empty(out.numel(), dtype=source.infos()[inner].dtype)
        source.read_into(inner, start, stored)
        out.copy_(stored)
        add_product(delta, start, out)

    def _whole(self, name: str) -> tuple[TensorSource, str]:
        own = self._adapter.replacements.get(name)
        return (self._adapter.weights, own) if own else (self._base, name)

    def byte_range(self, name: str) -> ByteRange | None:
        """The bytes of a tensor that has no product."""
        if name in self._adapter.deltas:
            return None
        source, inner = self._whole(name)
        return source.byte_range(inner)

    def factors(self, name: str) -> LowRank | None:
        """The adapter's delta."""
        return self._adapter.factors(name)

    def scratch_bytes(self, name: str, num_elements: int) -> int:
        """The base's tile, one block of the product, and the factors."""
        source, inner = self._whole(name)
        scratch = source.scratch_bytes(inner, num_elements)
        delta = self._adapter.deltas.get(name)
        if delta is None:
            return scratch
        stored = num_elements * source.infos()[inner].dtype.itemsize
        block = max(BLOCK_ELEMENTS, delta.shape[1])
        # While they are converted to fp32 the stored factors lie beside the converted ones.
        return scratch + stored + 4 * block + 8 * delta.rank * sum(delta.shape)

    def files(self) -> tuple[Path, ...]:
        """The files of base and adapter."""
        return (*self._base.files(), *self._adapter.files())


def add_product(delta: LowRank, start: int, out: torch.Tensor) -> None:
    """Add the elements `start ..` of the flattened `scale * B @ A` to `out`.

    Args:
        delta: the product `[rows, columns]`.
        start: flat index of the first element.
        out: 1-D, fp32.
    """
    columns = delta.A.shape[1]
    rows_per_block = max(1, BLOCK_ELEMENTS // columns)
    stop = start + out.numel()
    first_block = start // columns // rows_per_block
    for row in range(first_block * rows_per_block, -(-stop // columns), rows_per_block):
        block = (delta.B[row : row + rows_per_block] @ delta.A).view(-1)
        begin, end = max(start, row * columns), min(stop, row * columns + block.numel())
        piece = block[begin - row * columns : end - row * columns]
        out[begin - start : end - start].add_(piece, alpha=delta.scale)


def _check_targets(base: TensorSource, adapter: LoraAdapter) -> None:
    names = (*adapter.deltas, *adapter.replacements)
    unknown = sorted(name for name in names if name not in base.infos())
    if unknown:
        shown = ", ".join(f"'{name}'" for name in unknown[:5])
        raise SourceError(
            f"{adapter.label}: found {len(unknown)} adapted tensors that {base.label} lacks "
            f"({shown}); expected tensors of the base. Give the base the adapter was trained on."
        )
    for name, delta in adapter.deltas.items():
        shape = tensor_info(base, name).shape
        if name not in adapter.replacements and shape != delta.shape:
            raise SourceError(
                f"{adapter.label}: tensor '{name}': found a delta of {list(delta.shape)}; expected "
                f"{list(shape)} as in {base.label}. Give the base the adapter was trained on."
            )
