"""An encoder as a folder: `config.json`, `model.safetensors`, and its preprocessor beside them."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from omnicompose.encoders import make_encoder
from omnicompose.errors import SourceError

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"


def read_encoder_description(folder: Path) -> dict[str, object]:
    """`{"type": ..., "config": {...}}` of the encoder in `folder`.

    Raises:
        SourceError: no such file, or not the description of an encoder.
    """
    path = folder / CONFIG_NAME
    try:
        content = json.loads(path.read_text())
        return {"type": content["encoder_type"], "config": content["config"]}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise SourceError(
            f"{path}: not an encoder's description ({type(error).__name__}: {error}). Expected "
            'JSON with "encoder_type" and "config". Point at the folder of an encoder.'
        ) from error


def read_encoder(folder: Path) -> nn.Module:
    """The encoder in `folder` with its weights in fp32, ready to use (`eval`).

    Raises:
        SourceError: the folder holds no encoder, or weights that are not this encoder's.
    """
    encoder = make_encoder(read_encoder_description(folder))
    assert isinstance(encoder, nn.Module)
    path = folder / WEIGHTS_NAME
    try:
        encoder.load_state_dict(load_file(path))
    except (OSError, RuntimeError) as error:
        raise SourceError(
            f"{path}: not the weights of the encoder that {CONFIG_NAME} describes ({error}). "
            "Expected exactly its tensors. Restore the folder from its source."
        ) from error
    return encoder.float().eval()


def write_encoder(
    folder: Path, description: Mapping[str, object], encoder: nn.Module, dtype: torch.dtype
) -> None:
    """Write `encoder` as a folder that `read_encoder` reads; its preprocessor is not written.

    Args:
        folder: created if need be.
        description: `{"type": ..., "config": {...}}` that rebuilds the module.
        encoder: the module; left as it is.
        dtype: of the floating-point tensors on disk.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = {"encoder_type": description["type"], "config": description["config"]}
    (folder / CONFIG_NAME).write_text(json.dumps(content, indent=2) + "\n")
    state = {
        name: tensor.detach().to(dtype).contiguous()
        for name, tensor in encoder.state_dict().items()
    }
    save_file(state, folder / WEIGHTS_NAME, metadata={"format": "pt"})
