"""Files of statistics over different data as one file: sums add up, targets follow one another."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from omnicompose.errors import SourceError
from omnicompose.merging.job import TensorRef
from omnicompose.merging.statistics_file import (
    MEASURED,
    TARGETS,
    StatisticsFacts,
    StatisticsFile,
    open_statistics,
    write_statistics,
)
from omnicompose.tensors.source import TensorInfo, read_tensor

Parts = Mapping[str, Sequence[TensorRef]]
"""Name in the new file to the tensors whose sum it is."""


def add_statistics(paths: Sequence[Path], out: Path) -> None:
    """Add files up that hold one kind of statistics of one model over different data.

    Args:
        paths: two or more.
        out: the file to write.

    Raises:
        SourceError: the files do not belong together, or some data are in two of them.
    """
    files = [open_statistics(path) for path in paths]
    _check_addable(files)
    parts = _examples(files) if files[0].facts.kind == TARGETS else _sums(files)
    infos = {
        name: TensorInfo(name=name, dtype=refs[0].info.dtype, shape=refs[0].info.shape)
        for name, refs in parts.items()
    }

    def read(name: str) -> torch.Tensor:
        first, *rest = parts[name]
        total = read_tensor(first.source, first.name)
        for ref in rest:
            total += read_tensor(ref.source, ref.name)
        return total

    write_statistics(out, _facts([file.facts for file in files]), infos, read)


def _facts(every: Sequence[StatisticsFacts]) -> StatisticsFacts:
    apart = {name for one in every for name in one.counts}
    counts = Counter({name: 0 for name in apart})
    for one in every:
        counts.update({name: one.counts.get(name, one.count) for name in apart})
    return replace(
        every[0],
        num_examples=sum(one.num_examples for one in every),
        num_tokens=sum(one.num_tokens for one in every),
        data=tuple(sha256 for one in every for sha256 in one.data),
        counts=dict(counts),
        asked="",
    )


def _sums(files: Sequence[StatisticsFile]) -> Parts:
    parts: dict[str, list[TensorRef]] = {}
    for file in files:
        for name in file.source.infos():
            parts.setdefault(name, []).append(TensorRef(source=file.source, name=name))
    return parts


def _examples(files: Sequence[StatisticsFile]) -> Parts:
    """Targets are of single examples, which are numbered on from file to file."""
    parts, before = {}, 0
    for file in files:
        for name in file.source.infos():
            what, number, *rest = name.split(".")
            moved = ".".join([what, str(int(number) + before), *rest])
            parts[moved] = [TensorRef(source=file.source, name=name)]
        before += file.facts.num_examples
    return parts


def _check_addable(files: Sequence[StatisticsFile]) -> None:
    first = files[0]
    if first.facts.kind not in MEASURED:
        raise SourceError(
            f"{first.path}: found {first.facts.kind}, expected what `omnicompose collect` "
            f"measures: {', '.join(MEASURED)}. Nothing else adds up over data."
        )
    for file in files[1:]:
        ours = (first.facts.kind, first.facts.model, dict(first.facts.aliases))
        theirs = (file.facts.kind, file.facts.model, dict(file.facts.aliases))
        if ours != theirs:
            raise SourceError(
                f"{file.path}: found {theirs[0]} of {theirs[1]}, expected {ours[0]} of {ours[1]} "
                f"as in {first.path}. Add files of one kind and model."
            )
    data = [sha256 for file in files for sha256 in file.facts.data]
    if len(set(data)) < len(data):
        raise SourceError(
            f"{files[-1].path}: its data are in another of these files too; expected different "
            "data. Leave one of them out."
        )
