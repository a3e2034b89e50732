"""A family's own towers, connectors and tiling: its base model, run up to its language model.

Real families differ in ways that no common interface catches: tiles with newline embeddings, pixel
shuffling, grids, variable lengths, indicator tokens. None of it is written again here. The family's
base model is built without its language model, and a door stands in its place that hands back what
the language model would have seen: the embeddings of a prompt that holds one medium, and their
positions where the family gives positions of its own.
"""

from collections.abc import Mapping, Sequence
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

    def forward(self, media: Sequence[Medium]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Embeddings `[T, D]` of each medium in reading order, and their places `[4, T]`.

        Media whose tensors agree in shape go through the family together, as a batch of prompts.

        Args:
            media: tensors as the family's processor makes them, each for a prompt of one medium.
        """
        places: dict[object, list[int]] = {}
        for place, medium in enumerate(media):
            places.setdefault(_shapes(medium), []).append(place)
        found: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        for same in places.values():
            found |= zip(same, self._together([media[place] for place in same]), strict=True)
        return [found[place] for place in range(len(media))]

    def _together(self, media: Sequence[Medium]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """As `forward`, of media that agree in shape."""
        reference = next(p for p in self.parameters() if p.is_floating_point())
        inputs = {
            name: _like(torch.cat([medium[name] for medium in media]), reference)
            for name in media[0]
        }
        outputs = self.family(**inputs, use_cache=False)
        ids = torch.tensor(self.ids, device=reference.device)
        positions = getattr(outputs, "past_key_values", None)
        rows = zip(outputs.last_hidden_state, torch.isin(inputs["input_ids"], ids), strict=True)
        return [
            (states[is_media], places_of(is_media, _of_row(positions, row)))
            for row, (states, is_media) in enumerate(rows)
        ]


def _ids(config: PreTrainedConfig, name: str) -> list[int]:
    value = getattr(config, name)
    return list(value) if isinstance(value, list | tuple) else [value]


def _shapes(medium: Medium) -> object:
    """What has to agree for media to be one batch."""
    return tuple((name, tensor.shape, tensor.dtype) for name, tensor in sorted(medium.items()))


def _of_row(positions: torch.Tensor | None, row: int) -> torch.Tensor | None:
    """Positions `[..., 1, L]` of one prompt of a batch `[..., B, L]`."""
    return None if positions is None else positions[..., row : row + 1, :]


def _like(tensor: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """On the encoder's device; in its dtype if it holds measurements, not ids or sizes."""
    dtype = reference.dtype if tensor.is_floating_point() else None
    return tensor.to(device=reference.device, dtype=dtype)
