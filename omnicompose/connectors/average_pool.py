"""The mean of neighbouring features, then an MLP: fewer embeddings, no weights for it."""

from dataclasses import dataclass
from typing import Literal, Self

import torch
from torch import nn
from torch.nn import functional as F

from omnicompose.connectors.connector import Config
from omnicompose.connectors.grid import as_grid, as_sequence, grid_side
from omnicompose.connectors.mlp import Mlp, MlpSettings
from omnicompose.settings import read_settings

WHERE = "connector 'average_pool'"


@dataclass(frozen=True, slots=True, kw_only=True)
class AveragePoolSettings:
    """Configuration of `AveragePool`.

    Attributes:
        input_size: width E of the features.
        output_size: width D of the LLM's embeddings.
        window: features along each axis that become one.
        layout: `sequence` (sounds: the last window may be shorter) or `square` (pictures).
        num_layers: linear maps of the MLP behind.
    """

    input_size: int
    output_size: int
    window: int = 2
    layout: Literal["sequence", "square"] = "sequence"
    num_layers: int = 2


class AveragePool(nn.Module):
    """Features `[N, M, E]` to fewer embeddings `[N, T, D]`, one per window."""

    def __init__(self, settings: AveragePoolSettings) -> None:
        """Build the connector with fresh weights."""
        super().__init__()
        self.settings = settings
        self.mlp = Mlp(
            MlpSettings(
                input_size=settings.input_size,
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
            return F.avg_pool1d(features.transpose(1, 2), window, ceil_mode=True).transpose(1, 2)
        side = grid_side(features.shape[1], window, WHERE)
        return as_sequence(F.avg_pool2d(as_grid(features, side), window))


def _read(config: Config) -> AveragePoolSettings:
    return read_settings(AveragePoolSettings, config, WHERE)
