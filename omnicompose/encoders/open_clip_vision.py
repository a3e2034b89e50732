"""Images by the vision towers of open_clip.

A parameter `visual.NAME` of an open_clip checkpoint is `tower.NAME` here; the configuration is what
open_clip keeps under `model_cfg` in `open_clip_config.json`.
"""

from dataclasses import dataclass
from typing import Literal, Self

import torch
from torch import nn

from omnicompose.encoders.counting import count_features
from omnicompose.encoders.encoder import Config
from omnicompose.errors import SourceError
from omnicompose.settings import read_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenClipVisionSettings:
    """Configuration of `OpenClipVision`.

    Attributes:
        vision_config: open_clip's `vision_cfg`.
        embed_dim: width of the space that it shares with text; decides the unused projection.
        quick_gelu: open_clip's `quick_gelu`.
        feature_layer: whose output is the features; -1 is the last layer's.
        select: `default` drops the class token.
    """

    vision_config: dict[str, object]
    embed_dim: int
    quick_gelu: bool = False
    feature_layer: int = -1
    select: Literal["default", "full"] = "default"


class OpenClipVision(nn.Module):
    """Patches as features: pictures `[N, 3, H, W]` to `[N, patches (+ 1), E]`."""

    def __init__(self, settings: OpenClipVisionSettings) -> None:
        """Build the tower with fresh weights.

        Raises:
            SourceError: the tower is no transformer of open_clip's own.
        """
        # Imported here: open_clip takes seconds, and few composites need it.
        from open_clip.model import _build_vision_tower
        from open_clip.transformer import VisionTransformer

        super().__init__()
        self.settings = settings
        self.tower = _build_vision_tower(
            settings.embed_dim, dict(settings.vision_config), settings.quick_gelu
        )
        if not isinstance(self.tower, VisionTransformer):
            raise SourceError(
                f"encoder 'open_clip_vision': found a {type(self.tower).__name__}, expected a "
                "vision transformer. Take the encoder 'timm_vision' for models of timm."
            )
        self.feature_size = int(self.tower.transformer.width)

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Build the module with fresh weights from its JSON configuration."""
        return cls(_read(config))

    @staticmethod
    def num_features(config: Config, media_shape: tuple[int, ...]) -> int:
        """Patches of one picture `(3, H, W)`, and the class token where it is kept."""
        _read(config)
        return count_features(OpenClipVision.from_config, config, media_shape)

    def forward(self, media: torch.Tensor) -> torch.Tensor:
        """Features `[N, M, E]` of preprocessed pictures `[N, 3, H, W]`."""
        found = self.tower.forward_intermediates(
            media,
            indices=[_counted(self.settings.feature_layer, len(self.tower.transformer.resblocks))],
            intermediates_only=True,
            output_fmt="NLC",
            output_extra_tokens=True,
        )
        patches: torch.Tensor = found["image_intermediates"][0]
        if self.settings.select == "default":
            return patches
        return torch.cat([found["image_intermediates_prefix"][0], patches], dim=1)


def _counted(layer: int, depth: int) -> int:
    return layer if layer >= 0 else depth + layer


def _read(config: Config) -> OpenClipVisionSettings:
    return read_settings(OpenClipVisionSettings, config, "encoder 'open_clip_vision'")
