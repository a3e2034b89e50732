"""Sounds by transformers' Qwen2-Audio encoder: Whisper's, with every two features averaged.

A parameter `model.audio_tower.NAME` of a Qwen2-Audio checkpoint (in memory) is `tower.NAME` here.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import nn
from transformers import Qwen2AudioEncoder, Qwen2AudioEncoderConfig

from omnicompose.encoders.encoder import Config
from omnicompose.settings import read_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Qwen2AudioSettings:
    """Configuration of `Qwen2Audio`.

    Attributes:
        audio_config: a `Qwen2AudioEncoderConfig` as JSON.
    """

    audio_config: dict[str, object]


class Qwen2Audio(nn.Module):
    """Spectrograms `[N, mel bins, frames]` to features `[N, frames / 4, E]`."""

    def __init__(self, settings: Qwen2AudioSettings) -> None:
        """Build the tower with fresh weights."""
        super().__init__()
        self.tower = Qwen2AudioEncoder(Qwen2AudioEncoderConfig(**settings.audio_config))
        self.feature_size = self.tower.config.d_model

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Build the module with fresh weights from its JSON configuration."""
        return cls(_read(config))

    @staticmethod
    def num_features(config: Config, media_shape: tuple[int, ...]) -> int:
        """Features of one spectrogram `(mel bins, frames)`: halved twice."""
        _read(config)
        convolved = (media_shape[-1] + 1) // 2
        return convolved // 2

    def forward(self, media: torch.Tensor) -> torch.Tensor:
        """Features `[N, frames / 4, E]` of spectrograms `[N, mel bins, frames]`."""
        features: torch.Tensor = self.tower(media).last_hidden_state
        return features


def _read(config: Config) -> Qwen2AudioSettings:
    return read_settings(Qwen2AudioSettings, config, "encoder 'qwen2_audio'")
