"""Clips frame by frame through any encoder of pictures, neighbouring frames averaged if wanted.

A parameter `NAME` of the picture encoder is `picture.NAME` here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self, cast

import torch
from torch import nn

from omnicompose.encoders.encoder import Config, Encoder
from omnicompose.encoders.pictures import PICTURE_ENCODERS
from omnicompose.errors import SourceError
from omnicompose.settings import read_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameWiseSettings:
    """Configuration of `FrameWise`.

    Attributes:
        picture: `{"type": ..., "config": ...}` of an encoder of pictures.
        window: neighbouring frames of which the mean is kept; the last ones may be fewer.
    """

    picture: dict[str, object]
    window: int = 1


class FrameWise(nn.Module):
    """Clips `[N, F, 3, H, W]` to features `[N, ceil(F / window) * M, E]`, frame after frame."""

    def __init__(self, settings: FrameWiseSettings) -> None:
        """Build the picture encoder with fresh weights."""
        super().__init__()
        self.window = settings.window
        encoder = _picture_class(settings).from_config(_picture_config(settings))
        self.feature_size = encoder.feature_size
        self.picture = cast(nn.Module, encoder)

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Build the module with fresh weights from its JSON configuration."""
        return cls(_read(config))

    @staticmethod
    def num_features(config: Config, media_shape: tuple[int, ...]) -> int:
        """Features of one frame, for every window of a clip `(F, 3, H, W)`."""
        settings = _read(config)
        per_frame = _picture_class(settings).num_features(
            _picture_config(settings), media_shape[1:]
        )
        return -(-media_shape[0] // settings.window) * per_frame

    def forward(self, media: torch.Tensor) -> torch.Tensor:
        """Features of preprocessed clips `[N, F, 3, H, W]`."""
        features: torch.Tensor = self.picture(media.flatten(0, 1))
        by_frame = features.view(*media.shape[:2], *features.shape[1:])
        if self.window > 1:
            windows = torch.split(by_frame, self.window, dim=1)
            by_frame = torch.stack([window.mean(dim=1) for window in windows], dim=1)
        return by_frame.flatten(1, 2)


def _picture_class(settings: FrameWiseSettings) -> type[Encoder]:
    name = settings.picture.get("type")
    if name not in PICTURE_ENCODERS:
        raise SourceError(
            f"encoder 'frame_wise': found {name!r} for pictures, expected one of "
            f"{', '.join(PICTURE_ENCODERS)}. Correct its type."
        )
    return PICTURE_ENCODERS[str(name)]


def _picture_config(settings: FrameWiseSettings) -> Config:
    return cast(Mapping[str, object], settings.picture.get("config", {}))


def _read(config: Config) -> FrameWiseSettings:
    return read_settings(FrameWiseSettings, config, "encoder 'frame_wise'")
