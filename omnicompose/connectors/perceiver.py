"""Learned latents that read features and themselves, layer by layer: a perceiver resampler.

Wraps transformers' `Idefics2PerceiverResampler` between a map to its width and one to the LLM's.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import nn
from transformers.models.idefics2.configuration_idefics2 import Idefics2PerceiverConfig
from transformers.models.idefics2.modeling_idefics2 import Idefics2PerceiverResampler

from omnicompose.connectors.connector import Config
from omnicompose.settings import read_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class PerceiverSettings:
    """Configuration of `Perceiver`.

    Attributes:
        input_size: width E of the features.
        output_size: width D of the LLM's embeddings.
        num_latents: embeddings that every medium becomes.
        num_layers: perceiver layers.
        hidden_size: width H of the latents.
        num_heads: attention heads of the latents.
        num_key_value_heads: heads of what they read; divides `num_heads`.
        head_size: width of one head.
    """

    input_size: int
    output_size: int
    num_latents: int
    num_layers: int
    hidden_size: int
    num_heads: int
    num_key_value_heads: int
    head_size: int


class Perceiver(nn.Module):
    """Features `[N, M, E]` to `num_latents` embeddings `[N, Q, D]`, whatever M is."""

    def __init__(self, settings: PerceiverSettings) -> None:
        """Build the connector with fresh weights."""
        super().__init__()
        self.input = nn.Linear(settings.input_size, settings.hidden_size)
        self.resampler = Idefics2PerceiverResampler(
            Idefics2PerceiverConfig(
                hidden_size=settings.hidden_size,
                resampler_n_latents=settings.num_latents,
                resampler_depth=settings.num_layers,
                resampler_n_heads=settings.num_heads,
                resampler_head_dim=settings.head_size,
                num_key_value_heads=settings.num_key_value_heads,
            )
        )
        # The library begins with equal latents, which stay equal under training.
        nn.init.normal_(self.resampler.latents, std=0.02)
        self.output = nn.Linear(settings.hidden_size, settings.output_size)

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Build the module with fresh weights from its JSON configuration."""
        return cls(_read(config))

    @staticmethod
    def num_tokens(config: Config, num_features: int) -> int:
        """The number of latents."""
        return _read(config).num_latents

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Embeddings `[N, Q, D]` of features `[N, M, E]`."""
        seen = torch.ones(features.shape[:2], dtype=torch.long, device=features.device)
        latents = self.resampler(self.input(features), attention_mask=seen)
        embeddings: torch.Tensor = self.output(latents)
        return embeddings


def _read(config: Config) -> PerceiverSettings:
    return read_settings(PerceiverSettings, config, "connector 'perceiver'")
