"""Strict reading of safetensors headers: a file that lies about itself is refused.

The format: eight bytes, little-endian, give the length of a JSON object; the object maps tensor
names to dtype, shape and `data_offsets` (relative to the end of the JSON); the tensors follow one
after the other without holes to the end of the file.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch

from omnicompose.errors import SourceError
from omnicompose.tensors.dtypes import TORCH_DTYPES
from omnicompose.tensors.source import TensorInfo

LENGTH_BYTES = 8
MAX_HEADER_BYTES = 100_000_000
METADATA = "__metadata__"
REDOWNLOAD = "Download or export the file again."


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderEntry:
    """One tensor of a file: its facts, and the place of its bytes from the start of the file."""

    info: TensorInfo
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """All a safetensors file says about itself.

    Attributes:
        path: the file.
        entries: tensors by name, in the order of their bytes.
        metadata: the file's own notes.
    """

    path: Path
    entries: Mapping[str, HeaderEntry]
    metadata: Mapping[str, str]


def read_header(path: Path) -> Header:
    """Read and check the header of one file; nothing of the tensors is read.

    Raises:
        SourceError: the file cannot be read, or its header is not what the format demands.
    """
    try:
        with path.open("rb") as file:
            file_bytes = path.stat().st_size
            header_bytes = _header_length(path, file.read(LENGTH_BYTES), file_bytes)
            text = file.read(header_bytes)
    except OSError as error:
        raise _refusal(path, f"cannot be read ({error.strerror})", "a safetensors file") from error
    data_start = LENGTH_BYTES + header_bytes
    fields = _parse(path, text)
    metadata = _metadata(path, fields.pop(METADATA, {}))
    found = [_entry(path, name, value, data_start) for name, value in fields.items()]
    found.sort(key=lambda entry: (entry.offset, entry.info.num_bytes))
    _check_contiguous(path, found, data_start, file_bytes)
    return Header(path=path, entries={e.info.name: e for e in found}, metadata=metadata)


def _refusal(path: Path, found: str, expected: str, tensor: str | None = None) -> SourceError:
    where = f"{path}: tensor '{tensor}'" if tensor is not None else f"{path}"
    return SourceError(f"{where}: found {found}; expected {expected}. {REDOWNLOAD}")


def _header_length(path: Path, first: bytes, file_bytes: int) -> int:
    if len(first) < LENGTH_BYTES:
        raise _refusal(path, f"a file of {file_bytes} bytes", f"at least {LENGTH_BYTES}")
    length = int.from_bytes(first, "little")
    if length > MAX_HEADER_BYTES:
        raise _refusal(path, f"a header of {length} bytes", f"at most {MAX_HEADER_BYTES}")
    if LENGTH_BYTES + length > file_bytes:
        raise _refusal(
            path, f"a header of {length} bytes in a file of {file_bytes}", "a whole header"
        )
    return length


def _parse(path: Path, text: bytes) -> dict[str, object]:
    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=_without_duplicates)
    except RecursionError as error:
        raise _refusal(path, "JSON nested without end", "one flat JSON object") from error
    except ValueError as error:
        raise _refusal(path, f"no valid JSON ({error})", "a JSON object in UTF-8") from error
    if not isinstance(value, dict):
        raise _refusal(path, f"JSON of type {type(value).__name__}", "a JSON object")
    return value


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name '{twice}' occurs twice")
    return fields


def _metadata(path: Path, value: object) -> Mapping[str, str]:
    if isinstance(value, dict) and all(isinstance(text, str) for text in value.values()):
        return value
    raise _refusal(path, f"'{METADATA}' that is no map of texts", "texts by name")


def _entry(path: Path, name: str, value: object, data_start: int) -> HeaderEntry:
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise _refusal(path, f"{_short(value)}", "exactly dtype, shape and data_offsets", name)
    dtype = _dtype(path, name, value["dtype"])
    shape = _sizes(path, name, "shape", value["shape"])
    offsets = _sizes(path, name, "data_offsets", value["data_offsets"])
    if len(offsets) != 2:
        raise _refusal(path, f"{len(offsets)} data_offsets", "begin and end", name)
    info = TensorInfo(name=name, dtype=dtype, shape=shape)
    needed = prod(shape) * dtype.itemsize
    if offsets[1] - offsets[0] != needed:
        found = f"data_offsets {_short(list(offsets))} for {value['dtype']} {_short(list(shape))}"
        raise _refusal(path, found, f"a span of {_short(needed)} bytes", name)
    return HeaderEntry(info=info, offset=data_start + offsets[0])


def _dtype(path: Path, name: str, word: object) -> torch.dtype:
    dtype = TORCH_DTYPES.get(word) if isinstance(word, str) else None
    if dtype is None:
        raise _refusal(path, f"dtype {_short(word)}", f"one of {', '.join(TORCH_DTYPES)}", name)
    return dtype


def _sizes(path: Path, name: str, field: str, value: object) -> tuple[int, ...]:
    if isinstance(value, list) and all(type(size) is int and size >= 0 for size in value):
        return tuple(value)
    raise _refusal(path, f"{field} {_short(value)}", "whole numbers from 0", name)


def _check_contiguous(
    path: Path, entries: list[HeaderEntry], data_start: int, file_bytes: int
) -> None:
    position = data_start
    for entry in entries:
        if entry.offset != position:
            problem = "overlapping the tensor before it" if entry.offset < position else "a hole"
            found = f"{problem}: data at byte {_short(entry.offset)}"
            raise _refusal(path, found, f"data at byte {position}", entry.info.name)
        position += entry.info.num_bytes
        if position > file_bytes:
            found = f"data up to byte {_short(position)} in a file of {file_bytes} bytes"
            raise _refusal(path, found, "data within the file (it is truncated)", entry.info.name)
    if position != file_bytes:
        raise _refusal(path, f"{file_bytes} bytes", f"{position} bytes by its header")


def _short(value: object) -> str:
    """A found value as text that fits in a message, whatever an attacker put there."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        text = f"a {type(value).__name__} too large to show"
    return text if len(text) <= 80 else text[:77] + "..."
