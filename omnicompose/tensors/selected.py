"""Some tensors of a source under names given one by one."""

from collections.abc import Mapping
from pathlib import Path

import torch

from omnicompose.tensors.low_rank import LowRank
from omnicompose.tensors.source import ByteRange, TensorInfo, TensorSource, tensor_info


class SelectedSource:
    """A `TensorSource` of exactly the tensors named, each under a new name."""

    def __init__(
        self,
        source: TensorSource,
        old_names: Mapping[str, str],
        shapes: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:
        """Show `source`'s tensors under the keys of `old_names` (new name to old name).

        Args:
            source: what lies beneath.
            old_names: new name to old name.
            shapes: by new name, where a tensor of as many elements is to be shown in another shape.

        Raises:
            SourceError: the source lacks a tensor.
        """
        self._source = source
        self._old_names = dict(old_names)
        self._infos = {
            new: TensorInfo(name=new, dtype=info.dtype, shape=(shapes or {}).get(new, info.shape))
            for new, old in self._old_names.items()
            for info in (tensor_info(source, old),)
        }

    @property
    def label(self) -> str:
        """The label of the source beneath."""
        return self._source.label

    def infos(self) -> Mapping[str, TensorInfo]:
        """The tensors selected, in the order in which they were named."""
        return self._infos

    def read_into(self, name: str, start: int, out: torch.Tensor) -> None:
        """Fill `out` from the tensor beneath."""
        self._source.read_into(self._old_names[name], start, out)

    def byte_range(self, name: str) -> ByteRange | None:
        """The bytes on disk of the tensor beneath."""
        return self._source.byte_range(self._old_names[name])

    def factors(self, name: str) -> LowRank | None:
        """The delta of the tensor beneath."""
        return self._source.factors(self._old_names[name])

    def scratch_bytes(self, name: str, num_elements: int) -> int:
        """Memory that a read of the tensor beneath takes."""
        return self._source.scratch_bytes(self._old_names[name], num_elements)

    def files(self) -> tuple[Path, ...]:
        """The files of the source beneath."""
        return self._source.files()
