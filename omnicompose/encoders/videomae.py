"""Clips by transformers' VideoMAE: tubes of patches through a transformer.

A parameter `NAME` of a `VideoMAEModel` is `tower.NAME` here.
"""

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import nn
from transformers import VideoMAEConfig, VideoMAEModel

from omnicompose.encoders.encoder import Config
from omnicompose.settings import read_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoMaeSettings:
    """Configuration of `VideoMae`.

    Attributes:
        vision_config: a `VideoMAEConfig` as JSON.
    """

    vision_config: dict[str, object]


class VideoMae(nn.Module):
    """Clips `[N, F, 3, H, W]` to features `[N, tubes, E]`."""

    def __init__(self, settings: VideoMaeSettings) -> None:
        """Build the tower with fresh weights."""
        super().__init__()
        self.tower = VideoMAEModel(VideoMAEConfig(**settings.vision_config))
        self.feature_size = self.tower.config.hidden_size

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Build the module with fresh weights from its JSON configuration."""
        return cls(_read(config))

    @staticmethod
    def num_features(config: Config, media_shape: tuple[int, ...]) -> int:
        """Tubes of one clip `(F, 3, H, W)`."""
        vision = VideoMAEConfig(**_read(config).vision_config)
        num_patches = math.prod(side // vision.patch_size for side in media_shape[-2:])
        return int(media_shape[0] // vision.tubelet_size * num_patches)

    def forward(self, media: torch.Tensor) -> torch.Tensor:
        """Features `[N, tubes, E]` of clips `[N, F, 3, H, W]`."""
        features: torch.Tensor = self.tower(media).last_hidden_state
        return features


def _read(config: Config) -> VideoMaeSettings:
    return read_settings(VideoMaeSettings, config, "encoder 'videomae'")
