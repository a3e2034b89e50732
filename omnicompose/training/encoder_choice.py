"""The encoder of a new expert: one of ours, of a multimodal checkpoint, a bare tower, or fresh."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
import transformers
from torch import nn
from transformers import AutoModel, PreTrainedModel

from omnicompose.assembly import PREPROCESSORS
from omnicompose.encoders import make_encoder
from omnicompose.encoders.folder import read_encoder, read_encoder_description
from omnicompose.errors import SourceError, TrainingError
from omnicompose.experts.checkpoint import open_checkpoint
from omnicompose.experts.config import read_json
from omnicompose.experts.expert import Weights
from omnicompose.experts.native_module import FORGOTTEN
from omnicompose.experts.resolve import resolve
from omnicompose.training.config import EncoderChoice, TrainConfig

Description = Mapping[str, object]
TOWER_CONFIGS = ("vision_config", "audio_config")
"""What the settings of encoders around a tower of transformers call its configuration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """The encoder of a new expert.

    Attributes:
        description: `{"type", "config"}`.
        module: with its weights, in fp32.
        preprocessor: the folder of its preprocessor; None for media that need none.
    """

    description: Description
    module: nn.Module
    preprocessor: Path | None


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
    folder = resolve(chosen.source)
    if chosen.type is not None:
        description, module = _around_tower(chosen, folder)
    elif "encoder_type" in read_json(folder / "config.json"):
        description, module = read_encoder_description(folder), read_encoder(folder)
    else:
        description, module = _inside_checkpoint(chosen, config.modality, folder)
    return Encoding(description=description, module=module, preprocessor=own or folder)


def _inside_checkpoint(
    chosen: EncoderChoice, modality: str, folder: Path
) -> tuple[Description, nn.Module]:
    checkpoint = open_checkpoint(str(chosen.source), folder)
    found = checkpoint.encoder(modality)
    if checkpoint.family.native is not None:
        raise SourceError(
            f"encoder: {chosen.source} runs as its family's own model, of which no encoder can be "
            "taken out. Train it as `base`, or name a bare encoder with its `type`."
        )
    module = cast(nn.Module, make_encoder(found.describe()))
    module.load_state_dict(read_all(found.weights))
    return found.describe(), module


def _around_tower(chosen: EncoderChoice, folder: Path) -> tuple[Description, nn.Module]:
    """An encoder of our registry around a bare tower of transformers, such as CLIP's or Whisper's.

    Raises:
        SourceError: the encoder has no such tower, or the checkpoint does not hold it.
    """
    empty = _on_meta(chosen, {})
    tower = getattr(empty[1], "tower", None) if empty else None
    if empty is None or not isinstance(tower, PreTrainedModel):
        raise SourceError(
            f"encoder: {chosen.type!r} is not built around a model of transformers, so "
            f"{chosen.source} cannot be put into it. Write the encoder as a folder of ours first "
            "(`omnicompose.encoders.folder.write_encoder`)."
        )
    whole = AutoModel.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    found = next((m for m in whole.modules() if type(m) is type(tower)), None)
    if found is None:
        raise SourceError(
            f"encoder: {chosen.source} is a {type(whole).__name__}, in which there is no "
            f"{type(tower).__name__}, the tower of {chosen.type!r}. Name another type or source."
        )
    plain = cast(PreTrainedModel, found).config.to_diff_dict()
    for name in FORGOTTEN:
        plain.pop(name, None)
    description = {"type": chosen.type, "config": {empty[0]: plain, **chosen.config}}
    module = cast(nn.Module, make_encoder(description))
    cast(nn.Module, module.tower).load_state_dict(found.state_dict())
    return description, module


def _on_meta(chosen: EncoderChoice, plain: Description) -> tuple[str, nn.Module] | None:
    """What the encoder calls its tower's configuration, and the encoder without memory."""
    for name in TOWER_CONFIGS:
        try:
            with torch.device("meta"):
                made = make_encoder({"type": chosen.type, "config": {name: plain}})
        except SourceError:
            continue
        return name, cast(nn.Module, made)
    return None


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
    found = getattr(transformers, reader).from_pretrained(
        encoding.preprocessor, local_files_only=True
    )
    return {argument: found}
