"""Images by transformers' DINOv2.

A parameter `NAME` of a DINOv2 checkpoint (`Dinov2Model`) is `tower.NAME` here.
"""

import math
from dataclasses import dataclass
from typing import Literal, Self

import torch
from torch import nn
from transformers import Dinov2Config, Dinov2Model

from omnicompose.encoders.encoder import Config
from omnicompose.settings import read_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Dinov2Settings:
    """Configuration of `Dinov2`.

    Attributes:
        vision_config: a `Dinov2Config` as JSON.
        feature_layer: which hidden states are the features; -1 is the last layer's output.
        select: `default` drops the class token.
    """

    vision_config: dict[str, object]
    feature_layer: int = -1
    select: Literal["default", "full"] = "default"


class Dinov2(nn.Module):
    """DINOv2's patches as features: pictures `[N, 3, H, W]` to `[N, patches (+ 1), E]`."""

    def __init__(self, settings: Dinov2Settings) -> None:
        """Build the tower with fresh weights."""
        super().__init__()
        self.layer = settings.feature_layer
        self.num_dropped = 1 if settings.select == "default" else 0
        self.tower = Dinov2Model(Dinov2Config(**settings.vision_config))
        self.feature_size = self.tower.config.hidden_size

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Build the module with fresh weights from its JSON configuration."""
        return cls(_read(config))

    @staticmethod
    def num_features(config: Config, media_shape: tuple[int, ...]) -> int:
        """Patches of one picture `(3, H, W)`, and the class token where it is kept."""
        settings = _read(config)
        patch_size: int = Dinov2Config(**settings.vision_config).patch_size
        num_patches = math.prod(side // patch_size for side in media_shape[-2:])
        return num_patches + int(settings.select == "full")

    def forward(self, media: torch.Tensor) -> torch.Tensor:
        """Features `[N, M, E]` of preprocessed pictures `[N, 3, H, W]`."""
        states = self.tower(media, output_hidden_states=True).hidden_states
        features: torch.Tensor = states[self.layer][:, self.num_dropped :]
        return features


def _read(config: Config) -> Dinov2Settings:
    return read_settings(Dinov2Settings, config, "encoder 'dinov2'")
