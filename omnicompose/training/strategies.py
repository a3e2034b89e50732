"""What learns in a stage: adapters are put in place, everything else is frozen."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import nn

from omnicompose.errors import TrainingError
from omnicompose.training.config import Lora, Stage, TrainConfig
from omnicompose.training.subject import Part, Subject

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Parameters that learn at one rate.

    Attributes:
        names: of the parameters.
        peak_rate: their learning rate where the schedule is at its height.
        weight_decay: of AdamW.
    """

    names: tuple[str, ...]
    peak_rate: float
    weight_decay: float


def lora_config(subject: Subject, lora: Lora) -> LoraConfig:
    """The adapters as peft describes them."""
    roles = "|".join(lora.roles)
    inside = subject.language_model.rpartition(".")[2]
    # Within a multimodal model by path: encoders have layers of these names too.
    plain = subject.language_model == "model"
    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.rank if lora.alpha is None else lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.roles) if plain else rf".*{inside}.*\.({roles})",
    )


def add_adapters(subject: Subject, config: TrainConfig) -> None:
    """Put the adapters of strategy `lora` in place; those of `decoupled` are built in.

    Raises:
        TrainingError: the language model has no layer of the roles.
    """
    if config.adaptation != "lora":
        return
    lacking = [role for role in config.lora.roles if not _has_role(subject, role)]
    if lacking:
        raise TrainingError(
            f"lora.roles: the language model has no linear layer {', '.join(lacking)}. Name "
            "last path components of its layers."
        )
    torch.manual_seed(config.seed)
    inject_adapter_in_model(lora_config(subject, config.lora), subject.model)


def _has_role(subject: Subject, role: str) -> bool:
    inside = subject.model.get_submodule(subject.language_model)
    return any(
        path.rpartition(".")[2] == role and isinstance(module, nn.Linear)
        for path, module in inside.named_modules()
    )


def choose_parameters(subject: Subject, stage: Stage, precision: str) -> list[Group]:
    """Freeze what does not learn in a stage; the rest by the rate at which it learns.

    Raises:
        TrainingError: nothing learns.
    """
    rates = _rates(stage)
    groups: dict[tuple[float, float], list[str]] = {}
    for name, parameter in subject.model.named_parameters():
        rate = rates[subject.part_of(name)]
        learns = rate > 0 and parameter.is_floating_point()
        parameter.requires_grad_(learns)
        if parameter.is_floating_point():
            # Weights that learn stay in fp32: a small step would round to nothing.
            parameter.data = parameter.data.to(torch.float32 if learns else DTYPES[precision])
        if learns:
            decay = stage.weight_decay if parameter.dim() > 1 else 0.0
            groups.setdefault((rate, decay), []).append(name)
    if not groups:
        raise TrainingError(
            f"strategy {stage.strategy!r}: nothing learns in {type(subject.model).__name__}, whose "
            "connector is not told apart. Train it with `lora` or `full`."
        )
    return [
        Group(names=tuple(names), peak_rate=rate, weight_decay=decay)
        for (rate, decay), names in groups.items()
    ]


def _rates(stage: Stage) -> Mapping[Part, float]:
    """The rate of every part; 0 where it is frozen."""
    connector = stage.connector_learning_rate
    return {
        "backbone": stage.learning_rate if stage.strategy == "full" else 0.0,
        "adapter": stage.learning_rate if stage.strategy in ("lora", "decoupled") else 0.0,
        "connector": stage.learning_rate if connector is None else connector,
        "encoder": stage.encoder_learning_rate,
    }
