"""The language model inside a multimodal checkpoint as a plain one, which `compose` starts from."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from omnicompose.errors import SourceError
from omnicompose.experts.checkpoint import open_checkpoint
from omnicompose.experts.resolve import resolve
from omnicompose.recipe_values import Source
from omnicompose.tensors.source import TensorSource

TOKENIZER_FILES = ("tokenizer*", "special_tokens_map.json", "chat_template*", "*.model")


def write_backbone(source: Source, folder: Path) -> Path:
    """Write the language model of a checkpoint with its tokenizer; the folder.

    Args:
        source: a multimodal checkpoint of a known family.
        folder: left as it is if it exists.

    Raises:
        SourceError: the checkpoint's language model is no architecture that stands alone.
    """
    if folder.is_dir():
        return folder
    checkpoint = open_checkpoint(source.text, resolve(source))
    text = checkpoint.text_config
    config = text | {"architectures": [_architecture(source, text)]}
    weights = checkpoint.backbone().weights.source
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    tensors = {name: _read(weights, name) for name in weights.infos()}
    save_file(tensors, partial / "model.safetensors", metadata={"format": "pt"})
    (partial / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    for pattern in TOKENIZER_FILES:
        for path in checkpoint.folder.glob(pattern):
            shutil.copyfile(path, partial / path.name)
    partial.rename(folder)
    return folder


def _architecture(source: Source, config: dict[str, object]) -> str:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    model_type = str(config.get("model_type"))
    name = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(model_type)
    if name is None:
        raise SourceError(
            f"{source}: its language model is a {model_type!r}, which does not stand alone. Name "
            "the plain model that it was made from as `backbone:` of the suite."
        )
    return str(name)


def _read(source: TensorSource, name: str) -> torch.Tensor:
    info = source.infos()[name]
    flat = torch.empty(info.num_elements, dtype=info.dtype)
    source.read_into(name, 0, flat)
    return flat.view(info.shape)
