"""Neighbouring features joined by a learned convolution that steps over them, then an MLP."""

from dataclasses import dataclass
from typing import Literal, Self

import torch
from torch import nn
from torch.nn import functional as F

from omnicompose.connectors.connector import Config
from omnicompose.connectors.grid import as_grid, as_sequence, grid_side
from omnicompose.connectors.mlp import Mlp, MlpSettings
from omnicompose.settings import read_settings

WHERE = "connector 'conv_pool'"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvPoolSettings:
    """Configuration of `ConvPool`.

    Attributes:
        input_size: width E of the features.
        output_size: width D of the LLM's embeddings.
        window: features along each axis that become one; also the step.
        layout: `sequence` (sounds: the last window is filled up with zeros) or `square` (pictures).
        num_layers: linear maps of the MLP behind.
    """

    input_size: int
    output_size: int
    window: int = 2
    layout: Literal["sequence", "square"] = "sequence"
    num_layers: int = 2


class ConvPool(nn.Module):
    """Features `[N, M, E]` to fewer embeddings `[N, T, D]`, one per window."""

    def __init__(self, settings: ConvPoolSettings) -> None:
        """Build the connector with fresh weights."""
        super().__init__()
        self.settings = settings
        width, window = settings.input_size, settings.window
        kind = nn.Conv1d if settings.layout == "sequence" else nn.Conv2d
        self.conv = kind(width, width, window, stride=window)
        self.mlp = Mlp(
            MlpSettings(
                input_size=width, output_size=settings.output_size, num_layers=settings.num_layers
            )
        )

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Build the module with fresh weights from its JSON configuration."""
        return cls(_read(config))

    @staticmethod
    def num_tokens(config: Config, num_features: int) -> int:
        """One per window.

        Raises:
            SourceError: `square`, and the features make no square that the window divides.
        """
        settings = _read(config)
        if settings.layout == "sequence":
            return -(-num_features // settings.window)
        return (grid_side(num_features, settings.window, WHERE) // settings.window) ** 2

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Embeddings `[N, T, D]` of features `[N, M, E]`.

        Raises:
            SourceError: `square`, and the features make no square that the window divides.
        """
        embeddings: torch.Tensor = self.mlp(self._pool(features))
        return embeddings

    def _pool(self, features: torch.Tensor) -> torch.Tensor:
        window = self.settings.window
        if self.settings.layout == "sequence":
            lacking = -features.shape[1] % window
            padded = F.pad(features.transpose(1, 2), (0, lacking))
            pooled: torch.Tensor = self.conv(padded).transpose(1, 2)
            return pooled
        side = grid_side(features.shape[1], window, WHERE)
        return as_sequence(self.conv(as_grid(features, side)))


def _read(config: Config) -> ConvPoolSettings:
    return read_settings(ConvPoolSettings, config, WHERE)
