"""A source under other names: a bare LLM against the backbone inside an MLLM, old key layouts."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from omnicompose.errors import SourceError
from omnicompose.tensors.low_rank import LowRank
from omnicompose.tensors.source import ByteRange, TensorInfo, TensorSource


@dataclass(frozen=True, slots=True, kw_only=True)
class NameRule:
    r"""How names that match are rewritten; the first rule that matches a name decides.

    Attributes:
        pattern: regular expression, matched at the start of the name.
        replacement: what takes the place of the match (groups as `\1`); None hides the tensor.
    """

    pattern: str
    replacement: str | None


def rename(name: str, rules: Sequence[NameRule]) -> str | None:
    """The new name by the first rule that matches, the name itself if none does, None if hidden."""
    for rule in rules:
        found = re.match(rule.pattern, name)
        if found:
            if rule.replacement is None:
                return None
            return found.expand(rule.replacement) + name[found.end() :]
    return name


class RenamedSource:
    """A `TensorSource` that shows another one's tensors under new names."""

    def __init__(self, source: TensorSource, rules: Sequence[NameRule]) -> None:
        """Rename every tensor of `source` at once.

        Raises:
            SourceError: two tensors would get one name.
        """
        self._source = source
        self._old_names: dict[str, str] = {}
        for old in source.infos():
            new = rename(old, rules)
            if new is not None:
                self._add(new, old)
        self._infos = {
            new: TensorInfo(name=new, dtype=info.dtype, shape=info.shape)
            for new, old in self._old_names.items()
            for info in (source.infos()[old],)
        }

    def _add(self, new: str, old: str) -> None:
        if new in self._old_names:
            raise SourceError(
                f"{self.label}: tensors '{self._old_names[new]}' and '{old}' would both be called "
                f"'{new}'; expected one-to-one names. Correct the name rules of this family."
            )
        self._old_names[new] = old

    @property
    def label(self) -> str:
        """The label of the source beneath."""
        return self._source.label

    def infos(self) -> Mapping[str, TensorInfo]:
        """Every tensor that is not hidden, by its new name."""
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
