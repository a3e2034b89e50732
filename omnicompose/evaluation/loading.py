"""Open an exported folder as any user would, and say which export it is."""

import hashlib
import json
from pathlib import Path

import torch

from omnicompose.errors import EvaluationError, SourceError
from omnicompose.evaluation.composite import Composite
from omnicompose.evaluation.sample import file_sha256
from omnicompose.modeling.loading import open_composite

MODEL_TYPE = "omnicompose"
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
        EvaluationError: it is no exported folder, or the device is not there.
    """
    _check_folder(model_dir)
    _check_device(device)
    wanted = "float32" if dtype == "auto" and torch.device(device).type == "cpu" else dtype
    try:
        model, processor = open_composite(model_dir, wanted)
    except SourceError as err:
        raise EvaluationError(str(err)) from err
    model.to(device)
    ids = {name: entry["token_id"] for name, entry in model.config.modalities.items()}
    used = str(model.dtype).removeprefix("torch.")
    return Composite(model, processor, ids, (folder_digest(model_dir), used))


def _check_folder(model_dir: Path) -> None:
    path = model_dir / "config.json"
    if not path.is_file():
        raise EvaluationError(
            f"{model_dir}: config.json is missing; expected a folder that compose wrote."
        )
    try:
        config = json.loads(path.read_bytes())
    except ValueError as err:
        raise EvaluationError(
            f"{path}: found no JSON ({err}), expected what compose wrote. Compose it again."
        ) from err
    found = config.get("model_type") if isinstance(config, dict) else None
    if found != MODEL_TYPE:
        raise EvaluationError(
            f"{model_dir}: found a model of type {found!r}, expected {MODEL_TYPE!r}, a folder that "
            "compose wrote. To evaluate an expert by itself, compose a recipe that names it alone."
        )


def _check_device(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as err:
        said = str(err).split("\n")[0]
        raise EvaluationError(
            f"--device {device}: {said}; expected a device that this torch finds, such as cpu."
        ) from err


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
