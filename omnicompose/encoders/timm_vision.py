"""Images by any model of timm that gives features: transformers' tokens or a net's map.

A parameter `NAME` of the timm model is `tower.NAME` here.
"""

from dataclasses import dataclass, field
from typing import Self

import torch
from torch import nn

from omnicompose.encoders.counting import count_features
from omnicompose.encoders.encoder import Config
from omnicompose.errors import SourceError
from omnicompose.settings import read_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class TimmVisionSettings:
    """Configuration of `TimmVision`.

    Attributes:
        model: its name in timm.
        options: further arguments of `timm.create_model`, such as `img_size`.
        keep_prefix: whether class and register tokens are features too, where there are any.
    """

    model: str
    options: dict[str, object] = field(default_factory=dict)
    keep_prefix: bool = False


class TimmVision(nn.Module):
    """Tokens, or the places of a map, as features: pictures `[N, 3, H, W]` to `[N, M, E]`."""

    def __init__(self, settings: TimmVisionSettings) -> None:
        """Build the model without its head, with fresh weights.

        Raises:
            SourceError: timm has no such model.
        """
        # Imported here: timm takes seconds, and few composites need it.
        import timm

        super().__init__()
        if not timm.is_model(settings.model):
            raise SourceError(
                f"encoder 'timm_vision': timm has no model {settings.model!r}. "
                "`timm.list_models()` names those that it has."
            )
        self.tower = timm.create_model(
            settings.model, pretrained=False, num_classes=0, **settings.options
        )
        kept = settings.keep_prefix
        self.num_dropped = 0 if kept else int(getattr(self.tower, "num_prefix_tokens", 0))
        self.feature_size = int(self.tower.num_features)
        # Swin and its like put the colours last.
        self.is_channels_last = getattr(self.tower, "output_fmt", "NCHW") == "NHWC"

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Build the module with fresh weights from its JSON configuration."""
        return cls(_read(config))

    @staticmethod
    def num_features(config: Config, media_shape: tuple[int, ...]) -> int:
        """Tokens or places of one picture `(3, H, W)`."""
        _read(config)
        return count_features(TimmVision.from_config, config, media_shape)

    def forward(self, media: torch.Tensor) -> torch.Tensor:
        """Features `[N, M, E]` of preprocessed pictures `[N, 3, H, W]`."""
        features: torch.Tensor = self.tower.forward_features(media)
        if features.ndim == 3:
            return features[:, self.num_dropped :]
        return features.flatten(1, 2) if self.is_channels_last else features.flatten(2).mT


def _read(config: Config) -> TimmVisionSettings:
    return read_settings(TimmVisionSettings, config, "encoder 'timm_vision'")
