"""Safetensors checkpoints, one file or many: opened by header, read by position."""

import json
import os
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import torch

from omnicompose.errors import SourceError
from omnicompose.tensors.header import HeaderEntry, read_header
from omnicompose.tensors.low_rank import LowRank
from omnicompose.tensors.source import ByteRange, TensorInfo, tensor_bytes

SINGLE_FILE = "model.safetensors"
INDEX_SUFFIX = ".safetensors.index.json"


class ReadOnlyFile:
    """A file that is opened at the first read and read by position, from any thread."""

    def __init__(self, path: Path) -> None:
        """Remember the path; nothing is opened."""
        self.path = path
        self._descriptor: int | None = None

    def descriptor(self) -> int:
        """The open file descriptor.

        Raises:
            OSError: it cannot be opened.
        """
        if self._descriptor is None:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            # Two threads may both have opened it; each descriptor is closed with this object.
            weakref.finalize(self, os.close, descriptor)
            self._descriptor = descriptor
        return self._descriptor

    def read_into(self, offset: int, view: memoryview) -> int:
        """Fill `view` from byte `offset`; the number of bytes read, fewer only at the end."""
        done = 0
        while done < len(view):
            count = os.preadv(self.descriptor(), [view[done:]], offset + done)
            if count == 0:
                break
            done += count
        return done


class SafetensorsSource:
    """The tensors of one or more safetensors files; a `TensorSource`."""

    def __init__(self, label: str, paths: Sequence[Path]) -> None:
        """Read all headers.

        Raises:
            SourceError: a header is malformed, or two files hold a tensor of one name.
        """
        self._label = label
        self._files = tuple(ReadOnlyFile(path) for path in paths)
        self._places: dict[str, tuple[ReadOnlyFile, HeaderEntry]] = {}
        for file in self._files:
            for name, entry in read_header(file.path).entries.items():
                self._add(name, file, entry)
        self._infos = {name: entry.info for name, (_, entry) in self._places.items()}

    def _add(self, name: str, file: ReadOnlyFile, entry: HeaderEntry) -> None:
        if name in self._places:
            raise SourceError(
                f"{file.path}: found tensor '{name}', which {self._places[name][0].path.name} "
                "holds too; expected every name once. Remove the file that does not belong."
            )
        self._places[name] = (file, entry)

    @property
    def label(self) -> str:
        """The path or name that it was opened by."""
        return self._label

    def infos(self) -> Mapping[str, TensorInfo]:
        """Every tensor by name, in the order of the files."""
        return self._infos

    def read_into(self, name: str, start: int, out: torch.Tensor) -> None:
        """Fill `out` with elements from `start` on.

        Raises:
            SourceError: the file cannot be read or has become shorter.
        """
        file, entry = self._places[name]
        view = tensor_bytes(out)
        try:
            done = file.read_into(entry.offset + start * out.itemsize, view)
        except OSError as error:
            raise SourceError(
                f"{file.path}: tensor '{name}': cannot be read ({error.strerror}). "
                "Check the disk and start again with --resume."
            ) from error
        if done < len(view):
            raise SourceError(
                f"{file.path}: tensor '{name}': found {done} bytes where {len(view)} were "
                "expected; the file has changed since its header was read. Restore it."
            )

    def byte_range(self, name: str) -> ByteRange:
        """Where the tensor lies on disk."""
        file, entry = self._places[name]
        return ByteRange(path=file.path, offset=entry.offset, length=entry.info.num_bytes)

    def factors(self, name: str) -> LowRank | None:
        """None: a checkpoint knows no base."""
        return None

    def scratch_bytes(self, name: str, num_elements: int) -> int:
        """Nothing: bytes go straight into `out`."""
        return 0

    def files(self) -> tuple[Path, ...]:
        """The safetensors files."""
        return tuple(file.path for file in self._files)


def open_safetensors(path: Path, label: str | None = None) -> SafetensorsSource:
    """Open a safetensors file, or a folder with one file, a sharded checkpoint or loose files.

    Args:
        path: the file or folder.
        label: how messages call it; the path by default.

    Raises:
        SourceError: there are no weights, the index is wrong, or a header lies.
    """
    return SafetensorsSource(label or str(path), safetensors_files(path))


def safetensors_files(path: Path) -> tuple[Path, ...]:
    """The weight files that a path stands for, in order.

    Raises:
        SourceError: there are none, or the index is wrong.
    """
    if path.is_file():
        return (path,)
    if not path.is_dir():
        raise SourceError(f"{path}: no such file or folder. Give a checkpoint that exists.")
    if (path / SINGLE_FILE).is_file():
        return (path / SINGLE_FILE,)
    indices = sorted(path.glob(f"*{INDEX_SUFFIX}"))
    if len(indices) > 1:
        names = ", ".join(index.name for index in indices)
        raise SourceError(f"{path}: found {names}; expected one index. Remove those that are old.")
    if indices:
        return _indexed_files(indices[0])
    loose = tuple(sorted(path.glob("*.safetensors")))
    if not loose:
        raise SourceError(
            f"{path}: found no *.safetensors; expected {SINGLE_FILE} or shards with an index. "
            "Convert the weights to safetensors, or allow pickled weights explicitly."
        )
    return loose


def _indexed_files(index: Path) -> tuple[Path, ...]:
    weight_map = _weight_map(index)
    files = tuple(_file_beside(index, name) for name in dict.fromkeys(weight_map.values()))
    held = {path.name: set(read_header(path).entries) for path in files}
    for tensor, file_name in weight_map.items():
        if tensor not in held[PurePosixPath(file_name).name]:
            raise SourceError(
                f"{index}: tensor '{tensor}': not in {file_name}, where the index expects it. "
                "Download or export the checkpoint again."
            )
    for file_name, tensors in held.items():
        unlisted = sorted(tensors - set(weight_map))
        if unlisted:
            raise SourceError(
                f"{index}: {file_name} holds {len(unlisted)} tensors that the index does not "
                f"list ('{unlisted[0]}'). Download or export the checkpoint again."
            )
    return files


def _weight_map(index: Path) -> Mapping[str, str]:
    try:
        value = json.loads(index.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SourceError(f"{index}: no valid JSON ({error}). Download the index again.") from error
    weight_map = value.get("weight_map") if isinstance(value, dict) else None
    if (
        not isinstance(weight_map, dict)
        or not weight_map
        or not all(isinstance(file, str) for file in weight_map.values())
    ):
        raise SourceError(
            f"{index}: found no 'weight_map' of tensor to file names, which an index must have. "
            "Download the index again."
        )
    return weight_map


def _file_beside(index: Path, name: str) -> Path:
    # A name with a folder in it could reach any file of the machine.
    if PurePosixPath(name).name != name or "\\" in name or "\0" in name or name in ("", "..", "."):
        raise SourceError(
            f"{index}: found the file name {name!r}; expected a plain name beside the index. "
            "Do not use this checkpoint."
        )
    path = index.parent / name
    if not path.is_file():
        raise SourceError(f"{index}: shard {name} is missing. Download the checkpoint again.")
    return path
