"""Weights of either format from a path: safetensors if there are any, else pickles if allowed."""

from pathlib import Path

from omnicompose.tensors.checkpoint import open_safetensors
from omnicompose.tensors.pickled import SUFFIXES, open_pickled
from omnicompose.tensors.source import TensorSource


def open_weights(
    path: Path, label: str | None = None, *, allow_pickle: bool = False
) -> TensorSource:
    """Open the weights that a path stands for.

    Args:
        path: a weights file, or a folder with a checkpoint in it.
        label: how messages call it; the path by default.
        allow_pickle: the user's explicit consent to read tensors out of pickles.

    Raises:
        SourceError: there are no weights, they are malformed, or pickles without consent.
    """
    if only_pickled(path):
        return open_pickled(path, allow_pickle=allow_pickle, label=label)
    return open_safetensors(path, label)


def only_pickled(path: Path) -> bool:
    """Whether a path stands for pickled weights, with no safetensors beside them."""
    if path.is_file():
        return path.suffix in SUFFIXES
    return not any(path.glob("*.safetensors*")) and any(path.glob("pytorch_model*.bin"))
