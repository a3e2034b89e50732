"""One file of the parts that a collection has left; one tensor is in memory at a time."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from omnicompose.merging.statistics_file import ATTENTION, StatisticsFacts, write_statistics
from omnicompose.tensors.checkpoint import SafetensorsSource
from omnicompose.tensors.header import read_header
from omnicompose.tensors.source import TensorInfo, read_tensor

PLACEHOLDER = "nothing"
"""A tensor of parts that hold none: safetensors knows no empty file."""


def join(parts: Sequence[Path], facts: StatisticsFacts, out: Path) -> None:
    """Write one file.

    Args:
        parts: one file per part of the model, in order.
        facts: for the header; aliases and counts are those of the parts.
        out: the file.
    """
    aliases: dict[str, str] = {}
    counts: dict[str, int] = {}
    sources: dict[str, SafetensorsSource] = {}
    infos: dict[str, TensorInfo] = {}
    for path in parts:
        notes = read_header(path).metadata
        aliases |= json.loads(notes.get("aliases", "{}"))
        counts |= json.loads(notes.get("counts", "{}"))
        opened = SafetensorsSource(path.name, (path,))
        kept = {name: info for name, info in opened.infos().items() if name != PLACEHOLDER}
        infos |= kept
        sources |= dict.fromkeys(kept, opened)
    apart = {name: count for name, count in counts.items() if count != facts.count}
    facts = replace(facts, aliases=aliases, counts=apart)
    if facts.kind == ATTENTION:
        table = torch.stack([read_tensor(sources[name], name) for name in infos])
        info = TensorInfo(name=ATTENTION, dtype=table.dtype, shape=tuple(table.shape))
        write_statistics(out, facts, {ATTENTION: info}, lambda _name: table)
        return
    write_statistics(out, facts, infos, lambda name: read_tensor(sources[name], name))
