"""Sounds by transformers' Audio Spectrogram Transformer (AST): overlapping patches of a filterbank.

A parameter `NAME` of an `ASTModel` is `tower.NAME` here.
"""

from dataclasses import dataclass
from typing import Literal, Self

import torch
from torch import nn
from transformers import ASTConfig, ASTModel

from omnicompose.encoders.encoder import Config
from omnicompose.settings import read_settings

NUM_SPECIAL = 2
"""The class token and the distillation token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpectrogramTransformerSettings:
    """Configuration of `SpectrogramTransformer`.

    Attributes:
        audio_config: an `ASTConfig` as JSON.
        select: `default` drops the two special tokens.
    """

    audio_config: dict[str, object]
    select: Literal["default", "full"] = "default"


class SpectrogramTransformer(nn.Module):
    """Filterbanks `[N, frames, mel bins]` to features `[N, patches (+ 2), E]`."""

    def __init__(self, settings: SpectrogramTransformerSettings) -> None:
        """Build the tower with fresh weights."""
        super().__init__()
        self.num_dropped = NUM_SPECIAL if settings.select == "default" else 0
        self.tower = ASTModel(ASTConfig(**settings.audio_config))
        self.feature_size = self.tower.config.hidden_size

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Build the module with fresh weights from its JSON configuration."""
        return cls(_read(config))

    @staticmethod
    def num_features(config: Config, media_shape: tuple[int, ...]) -> int:
        """Overlapping patches of one filterbank `(frames, mel bins)`, special tokens where kept."""
        settings = _read(config)
        ast = ASTConfig(**settings.audio_config)
        over_time = (media_shape[-2] - ast.patch_size) // ast.time_stride + 1
        over_mel = (media_shape[-1] - ast.patch_size) // ast.frequency_stride + 1
        return int(over_time * over_mel) + NUM_SPECIAL * int(settings.select == "full")

    def forward(self, media: torch.Tensor) -> torch.Tensor:
        """Features `[N, M, E]` of filterbanks `[N, frames, mel bins]`."""
        features: torch.Tensor = self.tower(media).last_hidden_state[:, self.num_dropped :]
        return features


def _read(config: Config) -> SpectrogramTransformerSettings:
    return read_settings(
        SpectrogramTransformerSettings, config, "encoder 'spectrogram_transformer'"
    )
