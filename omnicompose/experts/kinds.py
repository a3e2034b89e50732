"""What kind of folder an expert is, told by the files in it."""

from pathlib import Path

from omnicompose.experts.config import read_json
from omnicompose.tensors.adapter_config import CONFIG as ADAPTER_FILE

__all__ = ["ADAPTER_FILE", "CONFIG_FILE", "EXPERT_FILE", "is_checkpoint", "is_modelcompose"]

EXPERT_FILE = "expert.json"
"""Of our own format."""
CONFIG_FILE = "config.json"
"""Of transformers, and of ModelCompose."""
MODELCOMPOSE = "multimodal"
"""What ModelCompose's folders call their model type."""


def is_modelcompose(folder: Path) -> bool:
    """Whether a folder says that it is one of ModelCompose's."""
    path = folder / CONFIG_FILE
    return path.is_file() and read_json(path).get("model_type") == MODELCOMPOSE


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder is a checkpoint of transformers."""
    is_other = (folder / EXPERT_FILE).is_file() or is_modelcompose(folder)
    return (folder / CONFIG_FILE).is_file() and not is_other
