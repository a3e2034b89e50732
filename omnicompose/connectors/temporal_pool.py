"""A clip's features averaged over time, over space, or both ways beside each other, then an MLP.

`both` is Video-ChatGPT's (arXiv 2306.05424): what is where on the average, and what each frame is.
"""

from dataclasses import dataclass
from typing import Literal, Self

import torch
from torch import nn

from omnicompose.connectors.connector import Config
from omnicompose.connectors.mlp import Mlp, MlpSettings
from omnicompose.errors import SourceError
from omnicompose.settings import read_settings

WHERE = "connector 'temporal_pool'"


@dataclass(frozen=True, slots=True, kw_only=True)
class TemporalPoolSettings:
    """Configuration of `TemporalPool`.

    Attributes:
        input_size: width E of the features.
        output_size: width D of the LLM's embeddings.
        features_per_frame: features P of one frame.
        keep: `places` (mean over time), `frames` (mean over each frame) or `both`, frames first.
        num_layers: linear maps of the MLP behind.
    """

    input_size: int
    output_size: int
    features_per_frame: int
    keep: Literal["places", "frames", "both"] = "both"
    num_layers: int = 2


class TemporalPool(nn.Module):
    """Features `[N, F * P, E]` of clips to fewer embeddings `[N, T, D]`."""

    def __init__(self, settings: TemporalPoolSettings) -> None:
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
        """Places, frames, or both.

        Raises:
            SourceError: the features are not whole frames.
        """
        settings = _read(config)
        places, frames = settings.features_per_frame, _num_frames(settings, num_features)
        return {"places": places, "frames": frames, "both": places + frames}[settings.keep]

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Embeddings `[N, T, D]` of features `[N, F * P, E]`.

        Raises:
            SourceError: the features are not whole frames.
        """
        frames = _num_frames(self.settings, features.shape[1])
        shape = (len(features), frames, self.settings.features_per_frame, -1)
        by_frame = features.reshape(shape)
        means = {"frames": by_frame.mean(dim=2), "places": by_frame.mean(dim=1)}
        keep = self.settings.keep
        kept = torch.cat(list(means.values()), dim=1) if keep == "both" else means[keep]
        embeddings: torch.Tensor = self.mlp(kept)
        return embeddings


def _num_frames(settings: TemporalPoolSettings, num_features: int) -> int:
    frames, rest = divmod(num_features, settings.features_per_frame)
    if rest:
        raise SourceError(
            f"{WHERE}: found {num_features} features of one clip, expected a multiple of "
            f"features_per_frame {settings.features_per_frame}. Correct it for this encoder."
        )
    return frames


def _read(config: Config) -> TemporalPoolSettings:
    return read_settings(TemporalPoolSettings, config, WHERE)
