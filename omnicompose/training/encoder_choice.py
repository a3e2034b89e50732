"""The encoder of a new expert: one by itself, one inside a checkpoint, or a fresh one."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import torch
import transformers
from torch import nn

from omnicompose.assembly import PREPROCESSORS
from omnicompose.encoders import make_encoder
from omnicompose.errors import SourceError, TrainingError
from omnicompose.experts.checkpoint import open_checkpoint
from omnicompose.experts.encoder_checkpoints import open_encoder_checkpoint
from omnicompose.experts.expert import Module, Weights
from omnicompose.experts.resolve import resolve
from omnicompose.recipe_values import Source
from omnicompose.training.config import TrainConfig

Description = Mapping[str, object]
Preprocessing = Path | Mapping[str, object]
"""The folder of a preprocessor's configuration, or the configuration itself."""
PREPROCESSOR_FILE = "preprocessor_config.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """The encoder of a new expert.

    Attributes:
        description: `{"type", "config"}`.
        module: with its weights, in fp32.
        preprocessor: where its preprocessor is described; None for a fresh one.
    """

    description: Description
    module: nn.Module
    preprocessor: Preprocessing | None


def open_encoder(config: TrainConfig) -> Encoding:
    """The encoder that a configuration names.

    Raises:
        SourceError: it cannot be opened, or its description does not hold.
    """
    chosen = config.encoder
    assert chosen is not None and config.modality is not None
    own = resolve(chosen.preprocessor) if chosen.preprocessor else None
    if chosen.source is None:
        description: Description = {"type": chosen.type, "config": dict(chosen.config)}
        module = cast(nn.Module, make_encoder(description))
        return Encoding(description=description, module=module, preprocessor=own)
    found, preprocessor = _open_source(chosen.source, config.modality)
    module = cast(nn.Module, make_encoder(found.describe()))
    module.load_state_dict(read_all(found.weights))
    return Encoding(description=found.describe(), module=module, preprocessor=own or preprocessor)


def _open_source(source: Source, modality: str) -> tuple[Module, Preprocessing]:
    """An encoder by itself, or the one inside a multimodal checkpoint."""
    folder = resolve(source)
    alone = open_encoder_checkpoint(source.text, folder)
    if alone is not None:
        return alone.module, alone.preprocessor
    checkpoint = open_checkpoint(source.text, folder)
    if checkpoint.family.native is not None:
        raise SourceError(
            f"encoder: {source} runs as its family's own model, of which no encoder can be taken "
            "out. Train it as `base`, or name an encoder by itself."
        )
    return checkpoint.encoder(modality), folder


def read_all(weights: Weights) -> dict[str, torch.Tensor]:
    """Every tensor of a part, in fp32."""
    tensors = {}
    for name, info in weights.source.infos().items():
        flat = torch.empty(info.num_elements, dtype=info.dtype)
        weights.source.read_into(name, 0, flat)
        tensors[name] = flat.view(info.shape).float()
    return tensors


def preprocessor_of(modality: str, encoding: Encoding) -> dict[str, object]:
    """The processor's argument that preprocesses a modality; nothing where media need none.

    Raises:
        TrainingError: a fresh encoder without a preprocessor.
    """
    if modality not in PREPROCESSORS:
        return {}
    argument, reader = PREPROCESSORS[modality]
    if encoding.preprocessor is None:
        raise TrainingError(
            f"encoder: one with fresh weights needs a `preprocessor`: a folder with the "
            f"preprocessor_config.json of its {modality}."
        )
    load = getattr(transformers, reader).from_pretrained
    if isinstance(encoding.preprocessor, Path):
        return {argument: load(encoding.preprocessor, local_files_only=True)}
    with TemporaryDirectory() as folder:
        (Path(folder) / PREPROCESSOR_FILE).write_text(json.dumps(dict(encoding.preprocessor)))
        return {argument: load(folder, local_files_only=True)}
