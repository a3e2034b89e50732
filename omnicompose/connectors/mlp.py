"""LLaVA's projector: linear maps with an activation between, each feature by itself.

A parameter `model.multi_modal_projector.NAME` of a LLaVA checkpoint is `NAME` here.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import torch
from torch import nn
from transformers.activations import ACT2FN

from omnicompose.connectors.connector import Config
from omnicompose.errors import SourceError
from omnicompose.settings import read_settings

LLAVA_PREFIXES = {"model.multi_modal_projector.": ""}
"""Renames the parameters of a `LlavaForConditionalGeneration` (in memory) to this connector's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MlpSettings:
    """Configuration of `Mlp`.

    Attributes:
        input_size: width E of the features.
        output_size: width D of the LLM's embeddings.
        hidden_size: width between the maps; None: D, as in LLaVA.
        num_layers: how many maps, 2 in LLaVA.
        activation: a name that transformers knows.
        bias: whether the maps have biases.
    """

    input_size: int
    output_size: int
    hidden_size: int | None = None
    num_layers: int = 2
    activation: str = "gelu"
    bias: bool = True


class Mlp(nn.Module):
    """Features `[N, M, E]` to as many embeddings `[N, M, D]`."""

    def __init__(self, settings: MlpSettings) -> None:
        """Build the projector with fresh weights."""
        super().__init__()
        hidden_size = settings.hidden_size or settings.output_size
        hidden = [hidden_size] * (settings.num_layers - 1)
        sizes = pairwise([settings.input_size, *hidden, settings.output_size])
        self.layer_names = [f"linear_{place}" for place in range(1, settings.num_layers + 1)]
        for name, (before, after) in zip(self.layer_names, sizes, strict=True):
            setattr(self, name, nn.Linear(before, after, bias=settings.bias))
        self.act = ACT2FN[settings.activation]

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
        first, *others = self.layer_names
        embeddings: torch.Tensor = getattr(self, first)(features)
        for name in others:
            embeddings = getattr(self, name)(self.act(embeddings))
        return embeddings


def _read(config: Config) -> MlpSettings:
    settings = read_settings(MlpSettings, config, "connector 'mlp'")
    if settings.num_layers < 1:
        raise SourceError(
            f"connector 'mlp': found num_layers {settings.num_layers}, expected at least 1. "
            "Correct it, or take the connector 'identity'."
        )
    return settings
