"""Images by transformers' InternViT, the vision tower of InternVL.

A parameter `model.vision_tower.NAME` of an InternVL checkpoint (in memory) is `tower.NAME` here.
"""

import math
from dataclasses import dataclass
from typing import Literal, Self

import torch
from torch import nn
from transformers import InternVLVisionConfig, InternVLVisionModel

from omnicompose.encoders.encoder import Config
from omnicompose.settings import read_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class InternVitSettings:
    """Configuration of `InternVit`.

    Attributes:
        vision_config: an `InternVLVisionConfig` as JSON.
        feature_layer: which hidden states are the features; -1 is the tower's own output.
        select: `default` drops the class token.
    """

    vision_config: dict[str, object]
    feature_layer: int = -1
    select: Literal["default", "full"] = "default"


class InternVit(nn.Module):
    """InternViT's patches as features: pictures `[N, 3, H, W]` to `[N, patches (+ 1), E]`."""

    def __init__(self, settings: InternVitSettings) -> None:
        """Build the tower with fresh weights."""
        super().__init__()
        self.layer = settings.feature_layer
        self.num_dropped = 1 if settings.select == "default" else 0
        self.tower = InternVLVisionModel(InternVLVisionConfig(**settings.vision_config))
        self.feature_size = self.tower.config.hidden_size

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Build the module with fresh weights from its JSON configuration."""
        return cls(_read(config))

    @staticmethod
    def num_features(config: Config, media_shape: tuple[int, ...]) -> int:
        """Patches of one picture `(3, H, W)`, and the class token where it is kept."""
        settings = _read(config)
        height, width = InternVLVisionConfig(**settings.vision_config).patch_size
        num_patches = math.prod(
            side // patch for side, patch in zip(media_shape[-2:], (height, width), strict=True)
        )
        return int(num_patches) + int(settings.select == "full")

    def forward(self, media: torch.Tensor) -> torch.Tensor:
        """Features `[N, M, E]` of preprocessed pictures `[N, 3, H, W]`."""
        outputs = self.tower(media, output_hidden_states=True)
        whole = self.layer == -1
        states = outputs.last_hidden_state if whole else outputs.hidden_states[self.layer]
        features: torch.Tensor = states[:, self.num_dropped :]
        return features


def _read(config: Config) -> InternVitSettings:
    return read_settings(InternVitSettings, config, "encoder 'intern_vit'")
