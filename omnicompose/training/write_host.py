"""A model that was trained as it is becomes an adapter on its base, or a whole checkpoint."""

from pathlib import Path
from typing import cast

import torch
from peft import LoraConfig
from transformers import PreTrainedModel, ProcessorMixin

from omnicompose.errors import TrainingError
from omnicompose.training.adapters import write_adapter
from omnicompose.training.config import TrainConfig
from omnicompose.training.strategies import lora_config
from omnicompose.training.subject import Subject


def write_host(folder: Path, subject: Subject, config: TrainConfig, dtype: torch.dtype) -> None:
    """Write what was learned.

    Args:
        folder: gets a peft adapter after `lora`, else a checkpoint with its processor.
        subject: with the trained weights in it.
        config: what was asked.
        dtype: of the tensors on disk.
    """
    if config.adaptation == "lora":
        _write_adapter(folder, subject, config, dtype)
        return
    for frontend in subject.frontends.values():
        frontend.put_back()
    model = cast(PreTrainedModel, subject.model.to(dtype))
    model.config.use_cache = True
    model.save_pretrained(folder)
    cast(ProcessorMixin, subject.processor).save_pretrained(folder)


def _write_adapter(folder: Path, subject: Subject, config: TrainConfig, dtype: torch.dtype) -> None:
    learned = learned_connector(subject, config)
    described: LoraConfig = lora_config(subject, config.lora)
    described.base_model_name_or_path = base_name(config)
    described.task_type = "CAUSAL_LM"
    described.modules_to_save = sorted(_modules(learned)) or None
    factors = {
        name.replace(".default.", "."): parameter
        for name, parameter in subject.model.named_parameters()
        if subject.part_of(name) == "adapter"
    }
    write_adapter(folder, described, {**factors, **learned}, dtype)


def learned_connector(subject: Subject, config: TrainConfig) -> dict[str, torch.Tensor]:
    """The connector's tensors by name, if any stage taught it."""
    if not any(stage.connector_learning_rate != 0 for stage in config.stages):
        return {}
    return {
        name: parameter
        for name, parameter in subject.model.named_parameters()
        if subject.part_of(name) == "connector"
    }


def _modules(names: dict[str, torch.Tensor]) -> set[str]:
    """The modules right below the base model that hold the tensors: peft saves whole modules.

    Raises:
        TrainingError: a tensor that belongs to no module of its own.
    """
    modules = set()
    for name in names:
        parts = name.split(".")
        if len(parts) < 3 or parts[0] != "model":
            raise TrainingError(
                f"{name}: peft saves modules, and this is a tensor by itself. Train with "
                "`connector_learning_rate: 0`, or with strategy `full`."
            )
        modules.add(parts[1])
    return modules


def base_name(config: TrainConfig) -> str:
    """The base as an expert names it: where a path leads does not depend on the reader's place."""
    return config.base.location if config.base.kind == "path" else config.base.text
