"""Images by transformers' SigLIP vision tower; SigLIP 2 of fixed resolution has the same one.

A parameter `vision_model.NAME` of a SigLIP checkpoint is `tower.NAME` here.
"""

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import nn
from transformers import SiglipVisionConfig, SiglipVisionModel

from omnicompose.encoders.encoder import Config
from omnicompose.settings import read_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class SiglipVisionSettings:
    """Configuration of `SiglipVision`.

    Attributes:
        vision_config: a `SiglipVisionConfig` as JSON.
        feature_layer: which hidden states are the features; -1 is the last layer's output.
    """

    vision_config: dict[str, object]
    feature_layer: int = -1


class SiglipVision(nn.Module):
    """SigLIP's patches as features: pictures `[N, 3, H, W]` to `[N, patches, E]`."""

    def __init__(self, settings: SiglipVisionSettings) -> None:
        """Build the tower with fresh weights."""
        super().__init__()
        self.layer = settings.feature_layer
        self.tower = SiglipVisionModel(SiglipVisionConfig(**settings.vision_config))
        self.feature_size = self.tower.config.hidden_size

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Build the module with fresh weights from its JSON configuration."""
        return cls(_read(config))

    @staticmethod
    def num_features(config: Config, media_shape: tuple[int, ...]) -> int:
        """Patches of one picture `(3, H, W)`."""
        patch_size: int = SiglipVisionConfig(**_read(config).vision_config).patch_size
        return math.prod(side // patch_size for side in media_shape[-2:])

    def forward(self, media: torch.Tensor) -> torch.Tensor:
        """Features `[N, M, E]` of preprocessed pictures `[N, 3, H, W]`."""
        states = self.tower(media, output_hidden_states=True).hidden_states
        features: torch.Tensor = states[self.layer]
        return features


def _read(config: Config) -> SiglipVisionSettings:
    return read_settings(SiglipVisionSettings, config, "encoder 'siglip_vision'")
