"""What every encoder offers: preprocessed media in, features out, and their number beforehand."""

from collections.abc import Mapping
from typing import Protocol, Self

import torch

Config = Mapping[str, object]


class Encoder(Protocol):
    """A network from preprocessed media to features; a `torch.nn.Module` built from plain data.

    Implementations are modules whose `config` is JSON and rebuilds them without weights.
    """

    feature_size: int
    """Width E of the features."""

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Build the module with fresh weights from its JSON configuration."""
        ...

    @staticmethod
    def num_features(config: Config, media_shape: tuple[int, ...]) -> int:
        """Features M that one medium gives, from the shape of its preprocessed tensor alone."""
        ...

    def __call__(self, media: torch.Tensor) -> torch.Tensor:
        """Features `[N, M, E]` of N preprocessed media `[N, ...]` of one shape."""
        ...
