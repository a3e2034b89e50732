"""One linear map from features to embeddings."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import nn

from omnicompose.connectors.connector import Config
from omnicompose.settings import read_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearSettings:
    """Configuration of `Linear`.

    Attributes:
        input_size: width E of the features.
        output_size: width D of the LLM's embeddings.
        bias: whether a bias is added.
    """

    input_size: int
    output_size: int
    bias: bool = True


class Linear(nn.Module):
    """Features `[N, M, E]` to as many embeddings `[N, M, D]`."""

    def __init__(self, settings: LinearSettings) -> None:
        """Build the map with fresh weights."""
        super().__init__()
        self.linear = nn.Linear(settings.input_size, settings.output_size, bias=settings.bias)

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Build the module with fresh weights from its JSON configuration."""
        return cls(_read(config))

    @staticmethod
    def num_tokens(config: Config, num_features: int) -> int:
        """One per feature."""
        _read(config)
        return num_features

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Embeddings `[N, M, D]` of features `[N, M, E]`."""
        embeddings: torch.Tensor = self.linear(features)
        return embeddings


def _read(config: Config) -> LinearSettings:
    return read_settings(LinearSettings, config, "connector 'linear'")
