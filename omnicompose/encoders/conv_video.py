"""Clips by a small convolutional net: each frame by itself, then each frame beside its neighbours.

A frame's features say what is in it (its strongest activations wherever they are) and where (all
activations in their places); a convolution over time adds how it moves.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import nn
from torch.nn import functional as F

from omnicompose.encoders.encoder import Config
from omnicompose.settings import read_settings

GRID = 4
"""The map of a frame of any size is averaged to GRID x GRID places."""

NUM_HALVINGS = 2
"""More would save time, but a small thing between two cells of a coarse map is hard to make out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvVideoSettings:
    """Configuration of `ConvVideo`.

    Attributes:
        channels: widths of the frame net's convolutions.
        feature_size: width E of the features.
        temporal_kernel: frames that one feature sees, an odd number.
    """

    channels: list[int]
    feature_size: int
    temporal_kernel: int = 3


class FrameNet(nn.Module):
    """Pictures `[N, 3, H, W]` to a map `[N, C, H / 4, W / 4]`."""

    def __init__(self, channels: list[int]) -> None:
        """Convolutions of the given widths; the first NUM_HALVINGS halve the picture."""
        super().__init__()
        layers: list[nn.Module] = []
        for index, (before, width) in enumerate(zip([3, *channels], channels, strict=False)):
            stride = 2 if index < NUM_HALVINGS else 1
            layers += [nn.Conv2d(before, width, 3, stride, 1), nn.ReLU()]
        self.layers = nn.Sequential(*layers)

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
        features = self.frame_features(media.flatten(0, 1))
        return self.add_motion(features.view(num_clips, num_frames, -1))

    def frame_features(self, pictures: torch.Tensor) -> torch.Tensor:
        """Features `[N, E]` of single frames `[N, 3, H, W]`, before they see their neighbours."""
        maps = self.frames(pictures)
        place: torch.Tensor = F.relu(self.place(F.adaptive_avg_pool2d(maps, GRID).flatten(1)))
        content: torch.Tensor = F.relu(self.content(maps.amax(dim=(2, 3))))
        return place + content

    def add_motion(self, features: torch.Tensor) -> torch.Tensor:
        """Features `[N, F, E]` of frames that have seen their neighbours, from those before."""
        moved: torch.Tensor = self.motion(features.transpose(1, 2))
        return features + F.relu(moved).transpose(1, 2)


def _read(config: Config) -> ConvVideoSettings:
    return read_settings(ConvVideoSettings, config, "encoder 'conv_video'")
