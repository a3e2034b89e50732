"""No change: for encoders whose features already are embeddings of the LLM."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import nn

from omnicompose.connectors.connector import Config
from omnicompose.settings import read_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentitySettings:
    """Configuration of `Identity`: there is nothing to set."""


class Identity(nn.Module):
    """Features `[N, M, D]` as they are."""

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Build the module from its JSON configuration."""
        _read(config)
        return cls()

    @staticmethod
    def num_tokens(config: Config, num_features: int) -> int:
        """One per feature."""
        _read(config)
        return num_features

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """The features."""
        return features


def _read(config: Config) -> IdentitySettings:
    return read_settings(IdentitySettings, config, "connector 'identity'")
