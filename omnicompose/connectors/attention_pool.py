"""A fixed number of learned queries, each gathering what it needs from all features."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import nn
from torch.nn import functional as F
from transformers.activations import ACT2FN

from omnicompose.connectors.connector import Config
from omnicompose.errors import SourceError
from omnicompose.settings import read_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionPoolSettings:
    """Configuration of `AttentionPool`.

    Attributes:
        input_size: width E of the features.
        output_size: width D of the LLM's embeddings.
        num_queries: embeddings that every medium becomes.
        hidden_size: width H of queries, keys and values.
        num_heads: attention heads; divides `hidden_size`.
        activation: a name that transformers knows.
    """

    input_size: int
    output_size: int
    num_queries: int
    hidden_size: int
    num_heads: int = 1
    activation: str = "gelu"


class AttentionPool(nn.Module):
    """Features `[N, M, E]` to `num_queries` embeddings `[N, Q, D]`, whatever M is."""

    def __init__(self, settings: AttentionPoolSettings) -> None:
        """Build the connector with fresh weights."""
        super().__init__()
        width = settings.hidden_size
        self.num_heads = settings.num_heads
        self.queries = nn.Parameter(torch.randn(settings.num_queries, width) * 0.5)
        self.key = nn.Linear(settings.input_size, width)
        self.value = nn.Linear(settings.input_size, width)
        self.norm = nn.LayerNorm(width)
        self.linear_1 = nn.Linear(width, width)
        self.act = ACT2FN[settings.activation]
        self.linear_2 = nn.Linear(width, settings.output_size)

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Build the module with fresh weights from its JSON configuration."""
        return cls(_read(config))

    @staticmethod
    def num_tokens(config: Config, num_features: int) -> int:
        """The number of queries."""
        return _read(config).num_queries

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Embeddings `[N, Q, D]` of features `[N, M, E]`."""
        queries = self._split_heads(self.queries.expand(len(features), -1, -1))
        keys = self._split_heads(self.key(features))
        values = self._split_heads(self.value(features))
        gathered = F.scaled_dot_product_attention(queries, keys, values)
        hidden = self.linear_1(self.norm(gathered.transpose(1, 2).flatten(2)))
        embeddings: torch.Tensor = self.linear_2(self.act(hidden))
        return embeddings

    def _split_heads(self, vectors: torch.Tensor) -> torch.Tensor:
        num_media, num_vectors, _ = vectors.shape
        return vectors.view(num_media, num_vectors, self.num_heads, -1).transpose(1, 2)


def _read(config: Config) -> AttentionPoolSettings:
    settings = read_settings(AttentionPoolSettings, config, "connector 'attention_pool'")
    if settings.hidden_size % settings.num_heads:
        raise SourceError(
            f"connector 'attention_pool': hidden_size {settings.hidden_size} does not divide into "
            f"num_heads {settings.num_heads}. Choose a number of heads that divides it."
        )
    return settings
