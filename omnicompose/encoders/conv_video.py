"""Clips by a small convolutional net: each frame by itself, then each frame beside its neighbours.

A frame's features say what is in it (its strongest activations wherever they are) and where (all
activations in their places); a convolution over time adds how it moves.
"""

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import nn
from torch.nn import functional as F

from omnicompose.encoders.encoder import Config
from omnicompose.settings import read_settings

GRID = 4
"""Frames of any size are averaged to a grid of GRID x GRID places."""

NORM_GROUPS = 8
"""Groups of every norm; fewer where they do not divide the width."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvVideoSettings:
    """Configuration of `ConvVideo`.

    Attributes:
        channels: widths of the stages of the frame net; each halves the picture.
        feature_size: width E of the features.
        temporal_kernel: frames that one feature sees, an odd number.
    """

    channels: list[int]
    feature_size: int
    temporal_kernel: int = 3


class FrameNet(nn.Module):
    """Pictures `[N, 3, H, W]` to a map `[N, C, GRID, GRID]`."""

    def __init__(self, channels: list[int]) -> None:
        """Stages of the given widths; every stage but the first has a second convolution."""
        super().__init__()
        layers: list[nn.Module] = []
        for index, (before, width) in enumerate(zip([3, *channels], channels, strict=False)):
            layers += _convolution(before, width, stride=2)
            if index > 0:
                layers += _convolution(width, width, stride=1)
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(GRID))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """The map of each picture."""
        maps: torch.Tensor = self.layers(pictures)
        return maps


class ConvVideo(nn.Module):
    """Clips `[N, F, 3, H, W]` to one feature per frame `[N, F, E]`."""

    def __init__(self, settings: ConvVideoSettings) -> None:
        """Build the net with fresh weights."""
        super().__init__()
        width, kernel = settings.feature_size, settings.temporal_kernel
        self.feature_size = width
        self.frames = FrameNet(settings.channels)
        self.place = nn.Linear(settings.channels[-1] * GRID * GRID, width)
        self.content = nn.Linear(settings.channels[-1], width)
        self.motion = nn.Conv1d(width, width, kernel, padding=kernel // 2)

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Build the module with fresh weights from its JSON configuration."""
        return cls(_read(config))

    @staticmethod
    def num_features(config: Config, media_shape: tuple[int, ...]) -> int:
        """One per frame of a clip `(F, 3, H, W)`."""
        _read(config)
        return media_shape[0]

    def forward(self, media: torch.Tensor) -> torch.Tensor:
        """Features `[N, F, E]` of clips `[N, F, 3, H, W]`."""
        num_clips, num_frames = media.shape[:2]
        features = self.frame_features(media.flatten(0, 1)).view(num_clips, num_frames, -1)
        moved: torch.Tensor = self.motion(features.transpose(1, 2))
        return features + F.relu(moved).transpose(1, 2)

    def frame_features(self, pictures: torch.Tensor) -> torch.Tensor:
        """Features `[N, E]` of single frames `[N, 3, H, W]`, before they see their neighbours."""
        maps = self.frames(pictures)
        place: torch.Tensor = F.relu(self.place(maps.flatten(1)))
        content: torch.Tensor = F.relu(self.content(maps.amax(dim=(2, 3))))
        return place + content


def _convolution(before: int, width: int, *, stride: int) -> list[nn.Module]:
    # Norms over groups, not over batches: no running statistics, and a clip never sees its batch.
    norm = nn.GroupNorm(math.gcd(width, NORM_GROUPS), width)
    return [nn.Conv2d(before, width, 3, stride, 1), norm, nn.ReLU()]


def _read(config: Config) -> ConvVideoSettings:
    return read_settings(ConvVideoSettings, config, "encoder 'conv_video'")
