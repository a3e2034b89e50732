"""What is trained: a model with its processor, and which of its parameters belong to which part."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

Part = Literal["backbone", "connector", "encoder", "adapter"]
ADAPTER_MARKS = (".lora_A.", ".lora_B.", ".streams.")
WRAPPED = ".base_layer."
"""What peft puts into the name of a layer that it adapts."""


class Processor(Protocol):
    """A processor of transformers, or a tokenizer where there are no media."""

    def __call__(self, **inputs: object) -> Mapping[str, torch.Tensor]:
        """Model inputs of texts and media."""
        ...


class Frontend(Protocol):
    """A frozen encoder inside a model, which may be asked beforehand and then left out."""

    def features(self, media: torch.Tensor) -> torch.Tensor:
        """Features `[N, M, E]` of preprocessed media `[N, ...]`."""
        ...

    def stand_in(self) -> None:
        """From now on the model takes features where it took preprocessed media."""
        ...

    def put_back(self) -> None:
        """Undo `stand_in`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A model that learns.

    Attributes:
        model: a causal language model of transformers, with or without media.
        processor: makes its inputs of rendered chats and media.
        tokenizer: the processor's.
        chat_template: Jinja.
        modalities: what it understands beside text.
        parts: every parameter's part, by its name before adapters came.
        language_model: path of the module whose linear layers are adapted.
        frontends: its encoders by the model input that they take, where they can be left out.
        takes_paths: whether the processor reads media files by itself.
        base: the folder that the weights came from.
    """

    model: PreTrainedModel
    processor: Processor
    tokenizer: PreTrainedTokenizerBase
    chat_template: str | None
    modalities: tuple[str, ...]
    parts: Mapping[str, Part]
    language_model: str
    frontends: Mapping[str, Frontend]
    takes_paths: bool
    base: Path

    def part_of(self, name: str) -> Part:
        """The part of a parameter by its name in the model, adapters among them or not."""
        if any(mark in name for mark in ADAPTER_MARKS):
            return "adapter"
        return self.parts[name.replace(WRAPPED, ".")]

    def encoders(self) -> Sequence[nn.Module]:
        """The outermost modules that hold an encoder's parameters and none of another part."""
        found: dict[str, nn.Module] = {}
        for path, module in self.model.named_modules():
            inside = {part for name, part in self.parts.items() if name.startswith(f"{path}.")}
            if inside == {"encoder"} and not any(path.startswith(f"{one}.") for one in found):
                found[path] = module
        return list(found.values())
