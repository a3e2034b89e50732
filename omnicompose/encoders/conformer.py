"""Sounds by torchaudio's Conformer: frames of a filterbank through convolution and attention.

A parameter `NAME` of the torchaudio model is `tower.NAME` here.
"""

from dataclasses import dataclass
from typing import Self

import torch
import torchaudio
from torch import nn

from omnicompose.encoders.encoder import Config
from omnicompose.settings import read_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class ConformerSettings:
    """Configuration of `Conformer`.

    Attributes:
        num_mel_bins: width E of frames and features.
        num_layers: conformer layers.
        num_heads: attention heads.
        intermediate_size: width of the feed-forward layers.
        kernel_size: frames that a depthwise convolution sees, an odd number.
        group_norm: whether convolutions are normalised by groups rather than by batches.
        convolution_first: whether convolution comes before attention.
    """

    num_mel_bins: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    kernel_size: int = 31
    group_norm: bool = False
    convolution_first: bool = False


class Conformer(nn.Module):
    """Filterbanks `[N, T, mel bins]` to as many features `[N, T, E]`."""

    def __init__(self, settings: ConformerSettings) -> None:
        """Build the tower with fresh weights."""
        super().__init__()
        self.feature_size = settings.num_mel_bins
        self.tower = torchaudio.models.Conformer(
            input_dim=settings.num_mel_bins,
            num_heads=settings.num_heads,
            ffn_dim=settings.intermediate_size,
            num_layers=settings.num_layers,
            depthwise_conv_kernel_size=settings.kernel_size,
            use_group_norm=settings.group_norm,
            convolution_first=settings.convolution_first,
        )

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Build the module with fresh weights from its JSON configuration."""
        return cls(_read(config))

    @staticmethod
    def num_features(config: Config, media_shape: tuple[int, ...]) -> int:
        """One per frame of a filterbank `(T, mel bins)`."""
        _read(config)
        return media_shape[0]

    def forward(self, media: torch.Tensor) -> torch.Tensor:
        """Features `[N, T, E]` of filterbanks `[N, T, mel bins]`."""
        lengths = torch.full((len(media),), media.shape[1], device=media.device)
        features: torch.Tensor = self.tower(media, lengths)[0]
        return features


def _read(config: Config) -> ConformerSettings:
    return read_settings(ConformerSettings, config, "encoder 'conformer'")
