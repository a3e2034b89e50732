"""Images by transformers' CLIP vision tower, chosen and cut exactly as LLaVA does.

A parameter `NAME` of a LLaVA checkpoint's `model.vision_tower.NAME` is `tower.NAME` here.
"""

import math
from dataclasses import dataclass
from typing import Literal, Self

import torch
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel

from omnicompose.encoders.encoder import Config
from omnicompose.settings import read_settings

LLAVA_PREFIXES = {"model.vision_tower.": "tower."}
"""Renames the parameters of a `LlavaForConditionalGeneration` (in memory) to this encoder's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipVisionSettings:
    """Configuration of `ClipVision`.

    Attributes:
        vision_config: a `CLIPVisionConfig` as JSON.
        feature_layer: LLaVA's `vision_feature_layer`: which hidden states are the features, or
            several to be joined along their width.
        select: LLaVA's `vision_feature_select_strategy`: `default` drops the class token.
    """

    vision_config: dict[str, object]
    feature_layer: int | list[int] = -2
    select: Literal["default", "full"] = "default"


class ClipVision(nn.Module):
    """CLIP's patches as features: pictures `[N, 3, H, W]` to `[N, patches (+ 1), E]`."""

    def __init__(self, settings: ClipVisionSettings) -> None:
        """Build the tower with fresh weights."""
        super().__init__()
        layer = settings.feature_layer
        self.layers = layer if isinstance(layer, list) else [layer]
        self.num_dropped = 1 if settings.select == "default" else 0
        self.tower = CLIPVisionModel(CLIPVisionConfig(**settings.vision_config))
        self.feature_size = self.tower.config.hidden_size * len(self.layers)

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Build the module with fresh weights from its JSON configuration."""
        return cls(_read(config))

    @staticmethod
    def num_features(config: Config, media_shape: tuple[int, ...]) -> int:
        """Patches of one picture `(3, H, W)`, and the class token where it is kept."""
        settings = _read(config)
        patch_size: int = CLIPVisionConfig(**settings.vision_config).patch_size
        num_patches = math.prod(side // patch_size for side in media_shape[-2:])
        return num_patches + int(settings.select == "full")

    def forward(self, media: torch.Tensor) -> torch.Tensor:
        """Features `[N, M, E]` of preprocessed pictures `[N, 3, H, W]`."""
        states = self.tower(media, output_hidden_states=True).hidden_states
        chosen = [states[layer][:, self.num_dropped :] for layer in self.layers]
        return torch.cat(chosen, dim=-1)


def _read(config: Config) -> ClipVisionSettings:
    return read_settings(ClipVisionSettings, config, "encoder 'clip_vision'")
