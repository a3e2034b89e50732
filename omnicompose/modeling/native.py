"""A family's own towers, connectors and tiling: its base model, run up to its language model.

Real families differ in ways that no common interface catches: tiles with newline embeddings, pixel
shuffling, grids, variable lengths, indicator tokens. None of it is written again here. The family's
base model is built without its language model, and a door stands in its place that hands back what
the language model would have seen: the embeddings of a prompt that holds one medium, and their
positions where the family gives positions of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self, cast

import torch
import transformers
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast

from omnicompose.modeling.positions import places_of
from omnicompose.settings import read_settings

NATIVE = "native"
"""The encoder type of a family that runs as it is."""
SHARED = "shared"
"""The encoder type of a modality whose media go through the encoder of another."""

Medium = Mapping[str, torch.Tensor]
"""One preprocessed medium: the family's own model inputs, its placeholders in `input_ids` `[L]`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeSettings:
    """Configuration of `NativeEncoder`.

    Attributes:
        base_class: the family's base model in transformers.
        config: its configuration as JSON; the language model in it has no layers.
        language_model: the attribute that holds its language model.
        ids: attributes of the configuration with the ids that stand for embeddings.
        unused: children that are not needed.
    """

    base_class: str
    config: dict[str, object]
    language_model: str
    ids: list[str]
    unused: list[str]


class _NoWords(nn.Module):
    """Embeddings of words that are not looked at: zeros, exact under any later cast."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return torch.zeros(*input_ids.shape, self.width, device=input_ids.device)


class _Door(nn.Module):
    """Stands where the language model stood and gives back what it was given."""

    gradient_checkpointing = False

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = _NoWords(config.hidden_size)

    def get_input_embeddings(self) -> nn.Module:
        return self.embed_tokens

    def forward(
        self,
        inputs_embeds: torch.Tensor,
        position_ids: torch.Tensor | None = None,
        **_: object,
    ) -> BaseModelOutputWithPast:
        # Families copy the output field by field; the cache is one that all of them hand on.
        return BaseModelOutputWithPast(
            last_hidden_state=inputs_embeds, past_key_values=cast(None, position_ids)
        )


class NativeEncoder(nn.Module):
    """One modality of a family: a preprocessed medium to the embeddings its LLM would see."""

    def __init__(self, settings: NativeSettings) -> None:
        """Build the family's base model with fresh weights and without its language model."""
        super().__init__()
        base_class: type[PreTrainedModel] = getattr(transformers, settings.base_class)
        config = base_class.config_class(**settings.config)
        self.family = base_class(config)
        setattr(self.family, settings.language_model, _Door(config.text_config))
        for child in settings.unused:
            setattr(self.family, child, None)
        self.ids = [token_id for name in settings.ids for token_id in _ids(config, name)]

    @classmethod
    def from_config(cls, config: Mapping[str, object]) -> Self:
        """Build the module with fresh weights from its JSON configuration."""
        return cls(read_settings(NativeSettings, config, "encoder 'native'"))

    def forward(self, medium: Medium) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings `[T, D]` of one medium in reading order, and their places `[4, T]`.

        Args:
            medium: tensors as the family's processor makes them, for a prompt of this one medium.
        """
        reference = next(p for p in self.parameters() if p.is_floating_point())
        inputs = {name: _like(tensor, reference) for name, tensor in medium.items()}
        outputs = self.family(**inputs, use_cache=False)
        input_ids = inputs["input_ids"][0]
        is_media = torch.isin(input_ids, torch.tensor(self.ids, device=input_ids.device))
        positions = getattr(outputs, "past_key_values", None)
        return outputs.last_hidden_state[0][is_media], places_of(is_media, positions)


def _ids(config: PreTrainedConfig, name: str) -> list[int]:
    value = getattr(config, name)
    return list(value) if isinstance(value, list | tuple) else [value]


def _like(tensor: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """On the encoder's device; in its dtype if it holds measurements, not ids or sizes."""
    dtype = reference.dtype if tensor.is_floating_point() else None
    return tensor.to(device=reference.device, dtype=dtype)
