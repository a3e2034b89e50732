"""Open an exported folder as any user would, and say which export it is."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers import AutoModelForMultimodalLM, AutoProcessor
from transformers.utils import logging

from omnicompose.errors import EvaluationError
from omnicompose.evaluation.composite import Composite
from omnicompose.evaluation.sample import file_sha256

IDENTITY_SUFFIXES = (".safetensors", ".json", ".jinja", ".txt", ".model")
NOT_IDENTITY = ("manifest.json",)
"""The manifest names paths and versions, which do not change an answer."""


def load_composite(model_dir: Path, device: str, dtype: str) -> Composite:
    """Open an exported folder: its processor and its model, in evaluation mode.

    Args:
        model_dir: what `omnicompose compose` wrote.
        device: where to run.
        dtype: of the computation; `auto` is float32 on a CPU and the folder's own elsewhere.

    Raises:
        EvaluationError: it is no exported folder.
    """
    if not (model_dir / "config.json").is_file():
        raise EvaluationError(
            f"{model_dir}: config.json is missing; expected a folder that compose wrote."
        )
    wanted = "float32" if dtype == "auto" and torch.device(device).type == "cpu" else dtype
    with _without_bars():
        processor = AutoProcessor.from_pretrained(model_dir)
        model = AutoModelForMultimodalLM.from_pretrained(model_dir, dtype=wanted).to(device)
    ids = {name: entry["token_id"] for name, entry in model.config.modalities.items()}
    used = str(model.dtype).removeprefix("torch.")
    return Composite(model, processor, ids, (folder_digest(model_dir), used))


@contextmanager
def _without_bars() -> Iterator[None]:
    """Silence transformers' bars: they draw on stderr even where nobody watches."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def folder_digest(model_dir: Path) -> str:
    """Digest of every file that can change an answer; the bytes themselves, not a manifest's word.

    The same export elsewhere has the same digest; another export to the same path another one.
    """
    files = sorted(
        path
        for path in model_dir.iterdir()
        if path.suffix in IDENTITY_SUFFIXES and path.name not in NOT_IDENTITY
    )
    listing = "".join(f"{file_sha256(path)}  {path.name}\n" for path in files)
    return hashlib.sha256(listing.encode()).hexdigest()
