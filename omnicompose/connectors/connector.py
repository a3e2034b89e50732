"""What every connector offers: features in, LLM embeddings out, and their number beforehand."""

from collections.abc import Mapping
from typing import Protocol, Self

import torch

Config = Mapping[str, object]


class Connector(Protocol):
    """A network from features to LLM embeddings; a `torch.nn.Module` built from plain data."""

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Build the module with fresh weights from its JSON configuration."""
        ...

    @staticmethod
    def num_tokens(config: Config, num_features: int) -> int:
        """LLM embeddings that one medium of `num_features` features becomes."""
        ...

    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        """Embeddings `[N, T, D]` of features `[N, M, E]`."""
        ...
