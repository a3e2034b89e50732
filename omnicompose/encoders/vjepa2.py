"""Clips by transformers' V-JEPA 2 encoder, without the predictor that it was trained with.

A parameter `encoder.NAME` of a `VJEPA2Model` is `tower.NAME` here.
"""

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import nn
from transformers import VJEPA2Config, VJEPA2Model

from omnicompose.encoders.encoder import Config
from omnicompose.settings import read_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Vjepa2Settings:
    """Configuration of `Vjepa2`.

    Attributes:
        vision_config: a `VJEPA2Config` as JSON.
    """

    vision_config: dict[str, object]


class Vjepa2(nn.Module):
    """Clips `[N, F, 3, H, W]` to features `[N, tubes, E]`."""

    def __init__(self, settings: Vjepa2Settings) -> None:
        """Build the tower with fresh weights."""
        super().__init__()
        model = VJEPA2Model(VJEPA2Config(**settings.vision_config))
        self.tower = model.encoder
        self.feature_size = model.config.hidden_size

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Build the module with fresh weights from its JSON configuration."""
        return cls(_read(config))

    @staticmethod
    def num_features(config: Config, media_shape: tuple[int, ...]) -> int:
        """Tubes of one clip `(F, 3, H, W)`."""
        vision = VJEPA2Config(**_read(config).vision_config)
        num_patches = math.prod(side // vision.patch_size for side in media_shape[-2:])
        return int(media_shape[0] // vision.tubelet_size * num_patches)

    def forward(self, media: torch.Tensor) -> torch.Tensor:
        """Features `[N, tubes, E]` of clips `[N, F, 3, H, W]`."""
        features: torch.Tensor = self.tower(pixel_values_videos=media).last_hidden_state
        return features


def _read(config: Config) -> Vjepa2Settings:
    return read_settings(Vjepa2Settings, config, "encoder 'vjepa2'")
