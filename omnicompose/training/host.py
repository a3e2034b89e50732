"""A model that is trained as it is: a multimodal checkpoint, a composite, or a language model."""

import re
from collections.abc import Iterable
from pathlib import Path

import torch
import transformers
from transformers import AutoProcessor, AutoTokenizer, PreTrainedModel

from omnicompose.errors import TrainingError
from omnicompose.experts.config import read_json
from omnicompose.experts.refusals import family_of, refuse_quantised
from omnicompose.experts.resolve import resolve
from omnicompose.families import FAMILIES
from omnicompose.modeling import OmniComposeForConditionalGeneration
from omnicompose.training.config import TrainConfig
from omnicompose.training.frontends import frontends_of
from omnicompose.training.subject import Part, Processor, Subject

COMPOSITE = "omnicompose"
CONNECTORS = re.compile(
    r"(^|\.)(multi_modal_projector|\w*projector|connector|\w*merger|\w*_connector|\w*_prefix|"
    r"\w*_suffix|embed_vision|embed_audio|modality_projection|resampler|image_newline)(\.|$)"
)
"""Names of modules between encoders and language models, where a family map does not tell."""


def load_host(config: TrainConfig) -> Subject:
    """The model that `config.base` names, in fp32, with its processor.

    Raises:
        SourceError: there is no such checkpoint, or it is of an architecture that we do not know.
        TrainingError: it cannot be written to, or does not say how chats are rendered.
    """
    folder = resolve(config.base)
    if config.base.adapter is not None:
        raise TrainingError(
            f"base: found {config.base.text!r} with an adapter, expected one checkpoint. Merge the "
            "adapter into it first (`omnicompose merge`)."
        )
    model = _load_model(config, folder)
    modalities = modalities_of(config)
    processor = _load_processor(folder, bool(modalities))
    tokenizer = getattr(processor, "tokenizer", processor)
    names = [name for name, _ in model.named_parameters()]
    return Subject(
        model=model,
        processor=processor,
        tokenizer=tokenizer,
        chat_template=getattr(processor, "chat_template", None)
        or getattr(tokenizer, "chat_template", None),
        modalities=modalities,
        parts=parts_of(model, names),
        language_model=_language_model_path(model),
        frontends=frontends_of(model),
        takes_paths=isinstance(model, OmniComposeForConditionalGeneration),
        base=folder,
    )


def _load_model(config: TrainConfig, folder: Path) -> PreTrainedModel:
    raw = read_json(folder / "config.json")
    if raw.get("model_type") == COMPOSITE:
        kind = OmniComposeForConditionalGeneration
    else:
        refuse_quantised(config.base.text, raw)
        kind = getattr(transformers, family_of(config.base.text, raw).architecture)
    options = {"attn_implementation": config.attention} if config.attention else {}
    model: PreTrainedModel = kind.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True, **options
    )
    return model


def modalities_of(config: TrainConfig) -> tuple[str, ...]:
    """What the model to be trained understands beside text; reads no weights.

    Raises:
        SourceError: there is no such checkpoint, or it is of an architecture that we do not know.
    """
    if config.modality is not None:
        return (config.modality,)
    raw = read_json(resolve(config.base) / "config.json")
    if raw.get("model_type") == COMPOSITE:
        described = raw["modalities"]
        return tuple(described) if isinstance(described, dict) else ()
    return family_of(config.base.text, raw).modalities


def _load_processor(folder: Path, has_media: bool) -> Processor:
    loader = AutoProcessor if has_media else AutoTokenizer
    processor: Processor = loader.from_pretrained(folder, local_files_only=True)
    return processor


def _language_model_path(model: PreTrainedModel) -> str:
    family = FAMILIES.get(type(model).__name__)
    if isinstance(model, OmniComposeForConditionalGeneration):
        return "model.language_model"
    if family is None or not family.text_config:
        return "model"
    return f"model.{family.native.language_model if family.native else 'language_model'}"


def parts_of(model: PreTrainedModel, names: Iterable[str]) -> dict[str, Part]:
    """Every parameter's part by its name in memory."""
    inside, head = _language_model_path(model), "lm_head."
    parts: dict[str, Part] = {}
    for name in names:
        if name.startswith((f"{inside}.", head)):
            parts[name] = "backbone"
        else:
            parts[name] = "connector" if CONNECTORS.search(name) else "encoder"
    return parts
