"""Sounds by transformers' CLAP audio tower (HTS-AT): the places of its last map as features.

A parameter `audio_model.NAME` of a CLAP checkpoint is `tower.NAME` here. Towers that fuse a long
sound's parts are not served: their inputs are more than one spectrogram.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import nn
from transformers import ClapAudioConfig, ClapAudioModel

from omnicompose.encoders.counting import count_features
from omnicompose.encoders.encoder import Config
from omnicompose.errors import SourceError
from omnicompose.settings import read_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class ClapAudioSettings:
    """Configuration of `ClapAudio`.

    Attributes:
        audio_config: a `ClapAudioConfig` as JSON.
    """

    audio_config: dict[str, object]


class ClapAudio(nn.Module):
    """Spectrograms `[N, 1, frames, mel bins]` to features `[N, M, E]`."""

    def __init__(self, settings: ClapAudioSettings) -> None:
        """Build the tower with fresh weights.

        Raises:
            SourceError: the tower fuses the parts of a sound.
        """
        super().__init__()
        config = ClapAudioConfig(**settings.audio_config)
        if config.enable_fusion:
            raise SourceError(
                "encoder 'clap_audio': found enable_fusion, expected a tower that hears one "
                "spectrogram. Take a checkpoint without fusion."
            )
        self.tower = ClapAudioModel(config)
        self.feature_size = int(self.tower.config.hidden_size)

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Build the module with fresh weights from its JSON configuration."""
        return cls(_read(config))

    @staticmethod
    def num_features(config: Config, media_shape: tuple[int, ...]) -> int:
        """Places of the last map of one spectrogram `(1, frames, mel bins)`."""
        _read(config)
        return count_features(ClapAudio.from_config, config, media_shape)

    def forward(self, media: torch.Tensor) -> torch.Tensor:
        """Features `[N, M, E]` of spectrograms `[N, 1, frames, mel bins]`."""
        maps: torch.Tensor = self.tower(media).last_hidden_state
        return maps.flatten(2).mT


def _read(config: Config) -> ClapAudioSettings:
    return read_settings(ClapAudioSettings, config, "encoder 'clap_audio'")
