"""Where every output byte will lie, decided from dtypes and shapes before any arithmetic."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from omnicompose.errors import MergeError
from omnicompose.tensors.dtypes import HEADER_WORDS
from omnicompose.tensors.source import TensorInfo

ALIGNMENT = 8
SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileLayout:
    """One safetensors file to be.

    Attributes:
        name: in the output folder.
        header: its first bytes, up to the data.
        offsets: of every tensor's first byte from the start of the file, in file order.
        num_bytes: of the whole file.
    """

    name: str
    header: bytes
    offsets: Mapping[str, int]
    num_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """All weight files of a checkpoint.

    Attributes:
        files: in order.
        index: text of the index file; None for a single file.
    """

    files: tuple[FileLayout, ...]
    index: str | None


def make_layout(infos: Sequence[TensorInfo], shard_bytes: int) -> Layout:
    """Distribute tensors over files in their order; a file is full before it passes `shard_bytes`.

    Args:
        infos: every output tensor, in the order of the files.
        shard_bytes: greatest number of tensor bytes per file; one larger tensor gets its own.

    Raises:
        MergeError: two tensors of one name, or a dtype that safetensors cannot hold.
    """
    _check_infos(infos)
    shards = _split(infos, shard_bytes)
    if len(shards) == 1:
        return Layout(files=(_file_layout(SINGLE_FILE, shards[0]),), index=None)
    names = [f"model-{i:05d}-of-{len(shards):05d}.safetensors" for i in range(1, len(shards) + 1)]
    files = tuple(_file_layout(name, shard) for name, shard in zip(names, shards, strict=True))
    return Layout(files=files, index=_index(files, infos))


def _check_infos(infos: Sequence[TensorInfo]) -> None:
    seen: set[str] = set()
    for info in infos:
        if info.name in seen:
            raise MergeError(
                f"output tensor '{info.name}': found it twice; expected every name once. "
                "Two jobs must not write one tensor."
            )
        if info.dtype not in HEADER_WORDS:
            raise MergeError(
                f"output tensor '{info.name}': found dtype {info.dtype}; expected one of "
                f"{', '.join(HEADER_WORDS.values())}. Choose another dtype in the recipe."
            )
        seen.add(info.name)


def _split(infos: Sequence[TensorInfo], shard_bytes: int) -> list[list[TensorInfo]]:
    shards: list[list[TensorInfo]] = [[]]
    filled = 0
    for info in infos:
        if shards[-1] and filled + info.num_bytes > shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(info)
        filled += info.num_bytes
    return shards


def _file_layout(name: str, infos: Sequence[TensorInfo]) -> FileLayout:
    relative: dict[str, int] = {}
    position = 0
    fields: dict[str, object] = {"__metadata__": {"format": "pt"}}
    for info in infos:
        relative[info.name] = position
        end = position + info.num_bytes
        fields[info.name] = {
            "dtype": HEADER_WORDS[info.dtype],
            "shape": list(info.shape),
            "data_offsets": [position, end],
        }
        position = end
    text = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
    # Padding with spaces puts the data on a multiple of 8 bytes, as the format asks.
    text += b" " * (-len(text) % ALIGNMENT)
    header = len(text).to_bytes(8, "little") + text
    offsets = {tensor: len(header) + start for tensor, start in relative.items()}
    return FileLayout(name=name, header=header, offsets=offsets, num_bytes=len(header) + position)


def _index(files: Sequence[FileLayout], infos: Sequence[TensorInfo]) -> str:
    weight_map = {tensor: file.name for file in files for tensor in file.offsets}
    total = sum(info.num_bytes for info in infos)
    value = {"metadata": {"total_size": total}, "weight_map": weight_map}
    return json.dumps(value, indent=2) + "\n"
