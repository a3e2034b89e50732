"""A new expert as a folder of our own format; see `omnicompose.experts.own_format`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, cast

import torch
from peft import LoraConfig
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from omnicompose.assembly import PREPROCESSORS
from omnicompose.encoders.folder import write_encoder
from omnicompose.experts.own_format import EXPERT_FILE
from omnicompose.streams import TEXT
from omnicompose.training.adapters import rounded, write_adapter, write_json
from omnicompose.training.config import TrainConfig
from omnicompose.training.subject import Subject
from omnicompose.training.write_host import base_name

CONNECTOR_FILE = "connector.safetensors"
PREPROCESSOR_FILE = "preprocessor_config.json"
STRATEGIES = {"lora": "single", "decoupled": "decoupled", "full": "full", "connector": "frozen"}
"""What expert.json calls the ways in which a language model was adapted."""
INSIDE = "model.language_model."
"""Where the language model lies within a composite; plain, it is `model`."""


class _Saveable(Protocol):
    def save_pretrained(self, save_directory: str | Path) -> list[str]: ...


def write_expert(folder: Path, subject: Subject, config: TrainConfig, dtype: torch.dtype) -> None:
    """Write a new expert.

    Args:
        folder: created if need be.
        subject: with the trained weights in it.
        config: what was asked.
        dtype: of the tensors on disk.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = str(config.modality)
    entry = subject.model.config.modalities[name]
    write_json(folder / EXPERT_FILE, _describe(config, entry))
    inside = getattr(subject.model.model, f"{name}_connector").state_dict()
    edges = {
        end: getattr(subject.model.model, f"{name}_{end}")
        for end in ("prefix", "suffix")
        if entry[f"num_{end}_tokens"]
    }
    save_file(rounded({**inside, **edges}, dtype), folder / CONNECTOR_FILE)
    _write_preprocessor(folder, subject, name)
    if _brings_encoder(config):
        encoder = getattr(subject.model.model, f"{name}_encoder")
        write_encoder(folder / "encoder", entry["encoder"], encoder, dtype)
        _write_preprocessor(folder / "encoder", subject, name)
    _write_backbone(folder, subject, config, dtype)


def _describe(config: TrainConfig, entry: Mapping[str, object]) -> dict[str, object]:
    encoder = dict(cast(Mapping[str, object], entry["encoder"]))
    return {
        "format": "omnicompose-expert",
        "format_version": 1,
        "modality": config.modality,
        "base": base_name(config),
        "strategy": STRATEGIES[config.adaptation],
        "encoder": {**encoder, "source": None if _brings_encoder(config) else _source(config)},
        "connector": entry["connector"],
        "num_prefix_tokens": config.prefix_tokens,
        "num_suffix_tokens": config.suffix_tokens,
    }


def _brings_encoder(config: TrainConfig) -> bool:
    """Whether the encoder is the expert's own: it learned."""
    return any(stage.encoder_learning_rate for stage in config.stages)


def _source(config: TrainConfig) -> str:
    assert config.encoder is not None and config.encoder.source is not None
    source = config.encoder.source
    return source.location if source.kind == "path" else source.text


def _write_preprocessor(folder: Path, subject: Subject, modality: str) -> None:
    """The preprocessor under one name for all modalities, which every reader tries."""
    if modality in PREPROCESSORS:
        part = cast(_Saveable, getattr(subject.processor, PREPROCESSORS[modality][0]))
        (written,) = part.save_pretrained(folder)
        Path(written).rename(folder / PREPROCESSOR_FILE)


def _write_backbone(
    folder: Path, subject: Subject, config: TrainConfig, dtype: torch.dtype
) -> None:
    if config.adaptation == "full":
        _write_language_model(folder / "backbone", subject, dtype)
    elif config.adaptation == "lora":
        factors = {
            _plain(name).replace(".default.", "."): weight
            for name, weight in subject.model.named_parameters()
            if subject.part_of(name) == "adapter"
        }
        alpha = config.lora.alpha or config.lora.rank
        write_adapter(folder / "adapter", _lora(config, alpha), factors, dtype)
    elif config.adaptation == "decoupled":
        for place, stream in (("modality", str(config.modality)), ("text", TEXT)):
            factors = _stream_factors(subject, stream)
            # A stream's factors carry their scale.
            write_adapter(folder / place, _lora(config, config.lora.rank), factors, dtype)


def _lora(config: TrainConfig, alpha: float) -> LoraConfig:
    """The adapter as peft describes it on the plain language model."""
    return LoraConfig(
        r=config.lora.rank,
        lora_alpha=alpha,
        target_modules=list(config.lora.roles),
        base_model_name_or_path=base_name(config),
        task_type="CAUSAL_LM",
    )


def _stream_factors(subject: Subject, stream: str) -> dict[str, torch.Tensor]:
    mark = f".streams.{stream}."
    return {
        f"{_plain(name).replace(mark, '.')}.weight": weight
        for name, weight in subject.model.named_parameters()
        if mark in name
    }


def _plain(name: str) -> str:
    """A name inside the composite as the plain causal language model has it."""
    return f"model.{name.removeprefix(INSIDE)}"


def _write_language_model(folder: Path, subject: Subject, dtype: torch.dtype) -> None:
    """The whole language model as the base's own class, without the placeholder's row."""
    model = AutoModelForCausalLM.from_pretrained(subject.base, dtype=torch.float32)
    weights = model.state_dict()
    for name in weights:
        source = subject.model.state_dict()[
            name.replace("model.", INSIDE, 1) if name.startswith("model.") else name
        ]
        weights[name] = source[: len(weights[name])]
    model.load_state_dict(weights)
    model.to(dtype).save_pretrained(folder)
    AutoTokenizer.from_pretrained(subject.base).save_pretrained(folder)
