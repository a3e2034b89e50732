"""Images of any shape by transformers' SigLIP 2 tower (NaFlex).

Pictures come whole, as SigLIP's own preprocessor gives them, and are cut into patches here; the
preprocessor of NaFlex, which cuts and pads them itself, does not fit.
A parameter `vision_model.NAME` of a SigLIP 2 NaFlex checkpoint is `tower.NAME` here.
"""

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import nn
from transformers import Siglip2VisionConfig, Siglip2VisionModel

from omnicompose.encoders.encoder import Config
from omnicompose.settings import read_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Siglip2VisionSettings:
    """Configuration of `Siglip2Vision`.

    Attributes:
        vision_config: a `Siglip2VisionConfig` as JSON.
        feature_layer: which hidden states are the features; -1 is the last layer's output.
    """

    vision_config: dict[str, object]
    feature_layer: int = -1


class Siglip2Vision(nn.Module):
    """SigLIP 2's patches as features: pictures `[N, 3, H, W]` to `[N, patches, E]`."""

    def __init__(self, settings: Siglip2VisionSettings) -> None:
        """Build the tower with fresh weights."""
        super().__init__()
        self.layer = settings.feature_layer
        self.tower = Siglip2VisionModel(Siglip2VisionConfig(**settings.vision_config))
        self.feature_size = self.tower.config.hidden_size
        self.patch_size: int = self.tower.config.patch_size

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Build the module with fresh weights from its JSON configuration."""
        return cls(_read(config))

    @staticmethod
    def num_features(config: Config, media_shape: tuple[int, ...]) -> int:
        """Whole patches of one picture `(3, H, W)`."""
        patch_size: int = Siglip2VisionConfig(**_read(config).vision_config).patch_size
        return math.prod(side // patch_size for side in media_shape[-2:])

    def forward(self, media: torch.Tensor) -> torch.Tensor:
        """Features `[N, M, E]` of pictures `[N, 3, H, W]`; what is no whole patch is cut off."""
        height, width = (side // self.patch_size for side in media.shape[-2:])
        patches = self._patches(media, height, width)
        shapes = torch.tensor([[height, width]] * len(media), device=media.device)
        seen = torch.ones(patches.shape[:2], dtype=torch.long, device=media.device)
        outputs = self.tower(
            patches, pixel_attention_mask=seen, spatial_shapes=shapes, output_hidden_states=True
        )
        features: torch.Tensor = outputs.hidden_states[self.layer]
        return features

    def _patches(self, media: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """Patches `[N, M, P * P * 3]` row by row, colours innermost."""
        size = self.patch_size
        whole = media[..., : height * size, : width * size]
        cut = whole.reshape(len(media), -1, height, size, width, size)
        return cut.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


def _read(config: Config) -> Siglip2VisionSettings:
    return read_settings(Siglip2VisionSettings, config, "encoder 'siglip2_vision'")
