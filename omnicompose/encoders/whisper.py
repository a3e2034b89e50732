"""Sounds by transformers' Whisper encoder: log-mel spectrogram in, one feature per two frames out.

A parameter `model.encoder.NAME` of a Whisper checkpoint is `tower.NAME` here.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import nn
from transformers import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from omnicompose.encoders.encoder import Config
from omnicompose.settings import read_settings

WHISPER_PREFIXES = {"model.encoder.": "tower."}
"""Renames the parameters of a `WhisperForConditionalGeneration` to this encoder's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WhisperSettings:
    """Configuration of `Whisper`.

    Attributes:
        audio_config: a `WhisperConfig` as JSON; only its encoder is built.
    """

    audio_config: dict[str, object]


class Whisper(nn.Module):
    """Whisper's encoder: spectrograms `[N, mel bins, frames]` to features `[N, frames / 2, E]`."""

    def __init__(self, settings: WhisperSettings) -> None:
        """Build the tower with fresh weights."""
        super().__init__()
        self.tower = WhisperEncoder(WhisperConfig(**settings.audio_config))
        self.feature_size = self.tower.config.d_model

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Build the module with fresh weights from its JSON configuration."""
        return cls(_read(config))

    @staticmethod
    def num_features(config: Config, media_shape: tuple[int, ...]) -> int:
        """Features of one spectrogram `(mel bins, frames)`: its second convolution halves them."""
        _read(config)
        return (media_shape[-1] + 1) // 2

    def forward(self, media: torch.Tensor) -> torch.Tensor:
        """Features `[N, frames / 2, E]` of spectrograms `[N, mel bins, frames]`."""
        features: torch.Tensor = self.tower(media).last_hidden_state
        return features


def _read(config: Config) -> WhisperSettings:
    return read_settings(WhisperSettings, config, "encoder 'whisper'")
