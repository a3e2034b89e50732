"""Neighbouring patches side by side in one wider feature, then an MLP, as InternVL and Idefics3.

A square of `factor * factor` patches becomes one feature; nothing is averaged away.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import nn

from omnicompose.connectors.connector import Config
from omnicompose.connectors.grid import as_grid, as_sequence, grid_side
from omnicompose.connectors.mlp import Mlp, MlpSettings
from omnicompose.settings import read_settings

WHERE = "connector 'pixel_shuffle'"


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelShuffleSettings:
    """Configuration of `PixelShuffle`.

    Attributes:
        input_size: width E of the features.
        output_size: width D of the LLM's embeddings.
        factor: side of the squares that are joined.
        num_layers: linear maps of the MLP behind.
        norm: whether the joined features are normalised first, as in InternVL.
    """

    input_size: int
    output_size: int
    factor: int = 2
    num_layers: int = 2
    norm: bool = True


class PixelShuffle(nn.Module):
    """Features `[N, M, E]` of square pictures to embeddings `[N, M / factor ** 2, D]`."""

    def __init__(self, settings: PixelShuffleSettings) -> None:
        """Build the connector with fresh weights."""
        super().__init__()
        self.factor = settings.factor
        width = settings.input_size * settings.factor**2
        self.norm = nn.LayerNorm(width) if settings.norm else nn.Identity()
        self.mlp = Mlp(
            MlpSettings(
                input_size=width,
                output_size=settings.output_size,
                num_layers=settings.num_layers,
            )
        )

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Build the module with fresh weights from its JSON configuration."""
        return cls(_read(config))

    @staticmethod
    def num_tokens(config: Config, num_features: int) -> int:
        """One per square of patches.

        Raises:
            SourceError: the features make no square that the factor divides.
        """
        factor = _read(config).factor
        return (grid_side(num_features, factor, WHERE) // factor) ** 2

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Embeddings `[N, M / factor ** 2, D]` of features `[N, M, E]`.

        Raises:
            SourceError: the features make no square that the factor divides.
        """
        side = grid_side(features.shape[1], self.factor, WHERE)
        joined = nn.functional.pixel_unshuffle(as_grid(features, side), self.factor)
        embeddings: torch.Tensor = self.mlp(self.norm(as_sequence(joined)))
        return embeddings


def _read(config: Config) -> PixelShuffleSettings:
    return read_settings(PixelShuffleSettings, config, WHERE)
