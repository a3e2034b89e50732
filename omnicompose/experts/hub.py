"""Hub repositories: what lies in the cache is taken, and only what is missing is fetched."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from omnicompose.errors import SourceError
from omnicompose.recipe_values import Source

WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
PICKLED = ("*.bin", "*.bin.index.json", "*.pt")
TEXTS = ("*.json", "*.jinja", "*.model", "*.txt")
OTHER_FORMATS = (
    "consolidated*",
    "*/consolidated*",
    "original/*",
    "onnx/*",
    "openvino/*",
    "checkpoint-*/*",
    "*training_args*",
    "*optimizer*",
)
"""The same weights again in formats that are not read, and what training leaves behind."""


def hub_folder(source: Source, *, allow_pickle: bool, weights: bool = True) -> Path:
    """The local folder of a hub repository, downloaded if it is not in the cache whole.

    The token is taken from the environment (HF_TOKEN) and from nowhere else. An interrupted
    download goes on where it stopped.

    Args:
        source: of kind `hub`.
        allow_pickle: take pickled weights too.
        weights: whether weights are wanted; without them configurations make it whole.

    Raises:
        SourceError: it is not in the cache, and the hub does not give it.
    """
    patterns = [*TEXTS, *(WEIGHTS if weights else ()), *(PICKLED if allow_pickle else ())]
    cached = _snapshot(source, patterns, offline=True)
    if cached is not None and (is_whole(cached) if weights else any(cached.glob("*.json"))):
        return cached
    fetched = _snapshot(source, patterns, offline=False)
    if fetched is None or not fetched.is_dir():
        raise SourceError(f"{source}: the repository has no such folder. Check its spelling.")
    return fetched


def is_whole(folder: Path) -> bool:
    """Whether a cached folder has all shards that its indices name, or any weights at all."""
    indices = list(folder.glob("*.index.json"))
    if not indices:
        return any(path.suffix in (".safetensors", ".bin", ".pt") for path in folder.iterdir())
    try:
        maps = [json.loads(index.read_text(encoding="utf-8"))["weight_map"] for index in indices]
        return all((folder / str(name)).is_file() for one in maps for name in set(one.values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _snapshot(source: Source, patterns: Sequence[str], *, offline: bool) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    below = f"{source.subfolder}/" if source.subfolder else ""
    try:
        snapshot = snapshot_download(
            source.location,
            revision=source.revision,
            allow_patterns=[below + pattern for pattern in patterns],
            ignore_patterns=[below + pattern for pattern in OTHER_FORMATS],
            local_files_only=offline,
            token=os.environ.get("HF_TOKEN") or False,
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        if offline:
            return None
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        reason = reason.removeprefix("Got: ").rstrip(".")
        raise SourceError(
            f"{source}: no such folder here, and the hub does not give it ({reason}). Check "
            "the spelling, the revision, the network, or HF_TOKEN for a private model."
        ) from error
    folder = Path(snapshot) / (source.subfolder or "")
    return folder if folder.is_dir() else None
