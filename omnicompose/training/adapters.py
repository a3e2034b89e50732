"""Trained adapters as plain peft folders."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from peft import LoraConfig
from safetensors.torch import save_file

from omnicompose.tensors.adapter_config import CONFIG

ADAPTER_WEIGHTS = "adapter_model.safetensors"
BEFORE = "base_model.model."
"""What peft puts before every name of the model that it adapts."""


def write_adapter(
    folder: Path,
    config: LoraConfig,
    weights: Mapping[str, torch.Tensor],
    dtype: torch.dtype,
) -> None:
    """Write a folder that `PeftModel.from_pretrained` reads.

    Args:
        folder: created if need be.
        config: rank, scale, targets and base.
        weights: by name in the model: factors (`....lora_A.weight`), and tensors of modules that
            are replaced as a whole.
        dtype: of the tensors on disk.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config.inference_mode = True
    content = {
        key: sorted(value) if isinstance(value, set) else value
        for key, value in config.to_dict().items()
    }
    write_json(folder / CONFIG, content)
    named = {f"{BEFORE}{name}": weight for name, weight in weights.items()}
    save_file(rounded(named, dtype), folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})


def rounded(weights: Mapping[str, torch.Tensor], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """The tensors by name, rounded once."""
    return {name: w.detach().to("cpu", dtype).contiguous() for name, w in sorted(weights.items())}


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Write JSON as people read it; the same content gives the same bytes."""
    path.write_text(json.dumps(content, indent=2, sort_keys=True, default=str) + "\n")
