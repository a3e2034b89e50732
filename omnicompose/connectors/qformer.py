"""Learned queries that read the features through BERT layers: BLIP-2's Q-Former, as ModelCompose.

Wraps transformers' `Blip2QFormerModel`, with cross-attention in every layer. A learned position may
be added to every feature; then queries, Q-Former, and a map to the LLM's embeddings.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import nn
from transformers import Blip2QFormerConfig
from transformers.models.blip_2.modeling_blip_2 import Blip2QFormerModel

from omnicompose.connectors.connector import Config
from omnicompose.errors import SourceError
from omnicompose.settings import read_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class QFormerSettings:
    """Configuration of `QFormer`.

    Attributes:
        input_size: width E of the features.
        output_size: width D of the LLM's embeddings.
        num_queries: embeddings that every medium becomes.
        num_layers: BERT layers.
        hidden_size: width H of the queries.
        num_heads: attention heads; divides `hidden_size`.
        intermediate_size: width of the feed-forward layers.
        max_positions: rows of the table of feature positions; 0: no positions.
    """

    input_size: int
    output_size: int
    num_queries: int
    num_layers: int
    hidden_size: int = 768
    num_heads: int = 12
    intermediate_size: int = 3072
    max_positions: int = 0


class QFormer(nn.Module):
    """Features `[N, M, E]` to `num_queries` embeddings `[N, Q, D]`, whatever M is."""

    def __init__(self, settings: QFormerSettings) -> None:
        """Build the connector with fresh weights."""
        super().__init__()
        width = settings.hidden_size
        self.query_tokens = nn.Parameter(torch.randn(1, settings.num_queries, width) * 0.02)
        self.qformer = Blip2QFormerModel(_qformer_config(settings))
        self.position_embedding: nn.Embedding | None = None
        if settings.max_positions:
            self.position_embedding = nn.Embedding(settings.max_positions, settings.input_size)
        self.projection = nn.Linear(width, settings.output_size)

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Build the module with fresh weights from its JSON configuration."""
        return cls(_read(config))

    @staticmethod
    def num_tokens(config: Config, num_features: int) -> int:
        """The number of queries.

        Raises:
            SourceError: more features than there are positions.
        """
        settings = _read(config)
        if settings.max_positions and num_features > settings.max_positions:
            raise SourceError(
                f"connector 'qformer': found {num_features} features, but positions for "
                f"{settings.max_positions} only. Give a shorter medium."
            )
        return settings.num_queries

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Embeddings `[N, Q, D]` of features `[N, M, E]`."""
        if self.position_embedding is not None:
            features = features + self.position_embedding.weight[: features.shape[1]]
        queries = self.query_tokens.expand(len(features), -1, -1)
        states = self.qformer(query_embeds=queries, encoder_hidden_states=features)
        embeddings: torch.Tensor = self.projection(states.last_hidden_state)
        return embeddings


def _qformer_config(settings: QFormerSettings) -> Blip2QFormerConfig:
    return Blip2QFormerConfig(
        hidden_size=settings.hidden_size,
        num_hidden_layers=settings.num_layers,
        num_attention_heads=settings.num_heads,
        intermediate_size=settings.intermediate_size,
        encoder_hidden_size=settings.input_size,
        cross_attention_frequency=1,
    )


def _read(config: Config) -> QFormerSettings:
    settings = read_settings(QFormerSettings, config, "connector 'qformer'")
    if settings.hidden_size % settings.num_heads:
        raise SourceError(
            f"connector 'qformer': hidden_size {settings.hidden_size} does not divide into "
            f"num_heads {settings.num_heads}. Choose a number of heads that divides it."
        )
    return settings
