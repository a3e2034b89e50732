"""Tensors that are already in memory, written to one file: whole, or not at all."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from omnicompose.errors import MergeError


def save_tensors(
    tensors: Mapping[str, torch.Tensor], path: Path, notes: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file under another name first, so that a kill leaves no half of it.

    Args:
        tensors: by name.
        path: the file.
        notes: for its header.

    Raises:
        MergeError: it cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    kept = {name: tensor.contiguous() for name, tensor in tensors.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(kept, partial, metadata=dict(notes or {}))
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        raise MergeError(
            f"{path}: cannot be written ({error}). Make room, or choose another place; the same "
            "command goes on from what was finished."
        ) from error
