"""PyTorch's pickled weights (`.bin`, `.pt`, `.pth`): only when allowed, their code never run."""

import json
import pickle
from pathlib import Path, PurePosixPath

import torch

from omnicompose.errors import SourceError
from omnicompose.tensors.memory import MemorySource

SUFFIXES = (".bin", ".pt", ".pth")
INDEX_NAME = "pytorch_model.bin.index.json"
CODE_SIGNS = ("GLOBAL", "Unsupported global", "Unsupported class")
"""What torch says of a pickle that names a class or a function."""


def open_pickled(path: Path, *, allow_pickle: bool, label: str | None = None) -> MemorySource:
    """Open pickled weights: tensors only (`weights_only=True`); all of them are held in memory.

    Args:
        path: a file, or a folder with `pytorch_model*.bin` files.
        allow_pickle: the user's explicit consent.
        label: how messages call it; the path by default.

    Raises:
        SourceError: not allowed, not readable as tensors alone, or a file would run code.
    """
    files = pickled_files(path)
    _check_consent(path, files[0].name, allow_pickle=allow_pickle)
    tensors: dict[str, torch.Tensor] = {}
    for file in files:
        for name, tensor in tensors_of(file, _unpickle(file)).items():
            if name in tensors:
                raise SourceError(
                    f"{file}: found tensor '{name}', which another file of the folder holds too; "
                    "expected every name once. Remove the file that does not belong."
                )
            tensors[name] = tensor
    return MemorySource(label or str(path), tensors, files)


def pickled_files(path: Path) -> tuple[Path, ...]:
    """The pickled weight files that a path stands for.

    Raises:
        SourceError: there are none.
    """
    if path.is_file() and path.suffix in SUFFIXES:
        return (path,)
    found = tuple(sorted(path.glob("pytorch_model*.bin"))) if path.is_dir() else ()
    if not found:
        raise SourceError(
            f"{path}: found no pickled weights; expected pytorch_model*.bin or a file ending in "
            f"{', '.join(SUFFIXES)}. Give the folder that holds the weights."
        )
    _check_index(path / INDEX_NAME, found)
    return found


def _check_index(index: Path, found: tuple[Path, ...]) -> None:
    if not index.is_file():
        return
    try:
        listed = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SourceError(f"{index}: no valid index ({error}). Download it again.") from error
    missing = sorted(str(name) for name in listed - {path.name for path in found})
    if missing:
        outside = PurePosixPath(missing[0]).name != missing[0]
        raise SourceError(
            f"{index}: {missing[0]} {'is outside the folder' if outside else 'is missing'}; "
            "expected every shard beside the index. Download the checkpoint again."
        )


def unpickle(file: Path, *, allow_pickle: bool) -> object:
    """What a pickle holds, tensors and plain data alone; no code in it is run.

    Raises:
        SourceError: not allowed, not readable, or it would run code.
    """
    _check_consent(file, file.name, allow_pickle=allow_pickle)
    return _unpickle(file)


def _check_consent(path: Path, file_name: str, *, allow_pickle: bool) -> None:
    if not allow_pickle:
        raise SourceError(
            f"{path}: found pickled weights ({file_name}); expected safetensors. Convert "
            "them, or allow them with allow_pickle: true (--allow-pickle); no code in them is run."
        )


def _unpickle(file: Path) -> object:
    try:
        value: object = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not any(sign in str(error) for sign in CODE_SIGNS):
            raise SourceError(
                f"{file}: found no pickle that can be read without running code; expected "
                "tensors alone, as torch.save writes them. Download it again, or ask its author "
                "for safetensors."
            ) from error
        raise SourceError(
            f"{file}: found a pickle with more than tensors in it, which would run code; expected "
            "tensors alone. Do not trust this file; ask its author for safetensors."
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise SourceError(
            f"{file}: not readable as pickled tensors ({error}). Download it again."
        ) from error
    return value


def tensors_of(file: Path, value: object) -> dict[str, torch.Tensor]:
    """What was unpickled from `file`, as tensors by name.

    Raises:
        SourceError: it is something else.
    """
    if not isinstance(value, dict) or not all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in value.items()
    ):
        raise SourceError(
            f"{file}: found {type(value).__name__}; expected a dict of tensors by name. "
            "Save the model's state_dict alone."
        )
    for name, tensor in value.items():
        _check_dense(file, name, tensor)
    return value


def _check_dense(file: Path, name: str, tensor: torch.Tensor) -> None:
    kinds = {
        "nested": tensor.is_nested,
        "sparse": tensor.layout != torch.strided,
        "quantised": tensor.is_quantized,
        "meta": tensor.is_meta,
    }
    found = [kind for kind, is_so in kinds.items() if is_so]
    if found:
        raise SourceError(
            f"{file}: tensor '{name}': found a {found[0]} tensor; expected plain numbers. Save "
            "it as a dense tensor on the CPU."
        )
