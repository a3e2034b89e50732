"""LLaVA's projector: two linear maps with an activation between, each feature by itself.

A parameter `model.multi_modal_projector.NAME` of a LLaVA checkpoint is `NAME` here.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import nn
from transformers.activations import ACT2FN

from omnicompose.connectors.connector import Config
from omnicompose.settings import read_settings

LLAVA_PREFIXES = {"model.multi_modal_projector.": ""}
"""Renames the parameters of a `LlavaForConditionalGeneration` (in memory) to this connector's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MlpSettings:
    """Configuration of `Mlp`.

    Attributes:
        input_size: width E of the features.
        output_size: width D of the LLM's embeddings.
        hidden_size: width between the two maps; None: D, as in LLaVA.
        activation: a name that transformers knows.
        bias: whether the maps have biases.
    """

    input_size: int
    output_size: int
    hidden_size: int | None = None
    activation: str = "gelu"
    bias: bool = True


class Mlp(nn.Module):
    """Features `[N, M, E]` to as many embeddings `[N, M, D]`."""

    def __init__(self, settings: MlpSettings) -> None:
        """Build the projector with fresh weights."""
        super().__init__()
        hidden_size = settings.hidden_size or settings.output_size
        self.linear_1 = nn.Linear(settings.input_size, hidden_size, bias=settings.bias)
        self.act = ACT2FN[settings.activation]
        self.linear_2 = nn.Linear(hidden_size, settings.output_size, bias=settings.bias)

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
        embeddings: torch.Tensor = self.linear_2(self.act(self.linear_1(features)))
        return embeddings


def _read(config: Config) -> MlpSettings:
    return read_settings(MlpSettings, config, "connector 'mlp'")
