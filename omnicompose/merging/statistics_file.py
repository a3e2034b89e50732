"""Files of statistics: sums over data that methods and searches use in place of the data.

A safetensors file whose header says what it is:

    gram, merged_gram   `<tensor>`    [in, in]  sum of x x^T over tokens x that enter the layer
    fisher              `<tensor>`    the tensor's shape; sum of squared gradients over examples
    attention           `attention`   [layers, 2] sum over examples of the attention that text pays
                                      to media and to text
    targets             `hidden.<example>.<blocks>` [width], `logits.<example>` [words]: of an
                        example's last position, behind so many blocks and behind the head

Tensors are called as in the backbone. Layers that read the same input (q, k and v) share one Gram;
`aliases` in the header says whose. Sums of two files over different data add up, targets are put
one after the other (`add_statistics`).
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import torch

from omnicompose.errors import SourceError
from omnicompose.merging.job import Measure, TensorRef
from omnicompose.tensors.checkpoint import SafetensorsSource, open_safetensors
from omnicompose.tensors.dtypes import HEADER_WORDS
from omnicompose.tensors.header import LENGTH_BYTES, METADATA, read_header
from omnicompose.tensors.source import TensorInfo, tensor_bytes

FORMAT = "omnicompose-statistics"
FORMAT_VERSION = "1"
ATTENTION = "attention"
TARGETS = "targets"
MEASURED = ("gram", "merged_gram", "fisher", ATTENTION, TARGETS)
"""What data are measured for; other kinds are no sums over data."""


def how_to_measure(kind: str) -> str:
    """What a user does to come by statistics of a kind."""
    special = {
        "merged_gram": "give every model its `data:`, `omnicompose merge` measures along the way",
        "coefficients": "run `omnicompose merge` with a method that searches, and take its recipe",
    }
    collected = f"run `omnicompose collect --what {kind}` and name the file under `statistics:`"
    return special.get(kind, f"{collected}, or give a merge's models their `data:`")


@dataclass(frozen=True, slots=True, kw_only=True)
class StatisticsFacts:
    """What the header of a file says.

    Attributes:
        kind: what was measured: `gram`, `merged_gram`, `fisher`, `attention` or `targets`.
        model: whose layers, as the user named it.
        num_examples: of the data.
        num_tokens: of the data.
        aliases: tensor to the tensor under whose name its sum lies.
        data: sha256 of every file of data that is in the sums.
        counts: tensor to what its sum is over, where that is not `count`: Grams of layers that
            only some of the tokens enter.
        asked: hash of model, data and settings; empty for sums of several files.
    """

    kind: str
    model: str
    num_examples: int
    num_tokens: int
    aliases: Mapping[str, str]
    data: tuple[str, ...]
    counts: Mapping[str, int] = field(default_factory=dict)
    asked: str = ""

    @property
    def count(self) -> int:
        """What a sum is over: tokens for Grams, examples for everything else."""
        return self.num_tokens if self.kind.endswith("gram") else self.num_examples

    def to_header(self) -> dict[str, str]:
        """As safetensors keeps it: words only."""
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "kind": self.kind,
            "model": self.model,
            "num_examples": str(self.num_examples),
            "num_tokens": str(self.num_tokens),
            "aliases": json.dumps(dict(self.aliases), sort_keys=True),
            "data": json.dumps(self.data),
            "counts": json.dumps(dict(self.counts), sort_keys=True),
            "asked": self.asked,
        }

    @classmethod
    def of_header(cls, header: Mapping[str, str]) -> Self:
        """From what safetensors keeps."""
        return cls(
            kind=header["kind"],
            model=header["model"],
            num_examples=int(header["num_examples"]),
            num_tokens=int(header["num_tokens"]),
            aliases=json.loads(header["aliases"]),
            data=tuple(json.loads(header["data"])),
            counts=json.loads(header.get("counts", "{}")),
            asked=header.get("asked", ""),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StatisticsFile:
    """An opened file: its header read, no sums."""

    path: Path
    facts: StatisticsFacts
    source: SafetensorsSource

    def measure(self, name: str) -> Measure | None:
        """What was measured for a tensor of the backbone; None if nothing was."""
        wanted = ATTENTION if self.facts.kind == ATTENTION else self.facts.aliases.get(name, name)
        if wanted not in self.source.infos():
            return None
        ref = TensorRef(source=self.source, name=wanted)
        return Measure(ref=ref, count=float(self.facts.counts.get(wanted, self.facts.count)))


def open_statistics(path: Path, kind: str | None = None) -> StatisticsFile:
    """Open a file of statistics.

    Args:
        path: written by `omnicompose collect`.
        kind: what it must hold; None: anything.

    Raises:
        SourceError: it is no such file, or holds something else.
    """
    if not path.is_file():
        raise SourceError(f"{path}: no such file of statistics. Run `omnicompose collect` first.")
    header = read_header(path).metadata
    if header.get("format") != FORMAT or header.get("format_version") != FORMAT_VERSION:
        raise SourceError(
            f"{path}: no file of statistics ({FORMAT} {FORMAT_VERSION}). Give one that "
            "`omnicompose collect` wrote."
        )
    if kind is not None and header["kind"] != kind:
        raise SourceError(
            f"{path}: found {header['kind']}, expected {kind}. To get that, {how_to_measure(kind)}."
        )
    facts = StatisticsFacts.of_header(header)
    return StatisticsFile(path=path, facts=facts, source=open_safetensors(path))


def write_statistics(
    path: Path,
    facts: StatisticsFacts,
    infos: Mapping[str, TensorInfo],
    read: Callable[[str], torch.Tensor],
) -> None:
    """Write a file tensor by tensor; it is whole, or not there.

    Args:
        path: the file.
        facts: for its header.
        infos: what it will hold, in order.
        read: gives a tensor by its name, when its turn comes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        file.write(_header_bytes(facts, infos))
        for name in infos:
            file.write(tensor_bytes(read(name).contiguous().view(-1)))
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _header_bytes(facts: StatisticsFacts, infos: Mapping[str, TensorInfo]) -> bytes:
    fields: dict[str, object] = {METADATA: facts.to_header()}
    end = 0
    for name, info in infos.items():
        begin, end = end, end + info.num_bytes
        word = HEADER_WORDS[info.dtype]
        fields[name] = {"dtype": word, "shape": info.shape, "data_offsets": [begin, end]}
    text = json.dumps(fields).encode()
    text += b" " * (-len(text) % LENGTH_BYTES)
    return len(text).to_bytes(LENGTH_BYTES, "little") + text
