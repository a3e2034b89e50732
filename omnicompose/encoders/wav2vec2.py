"""Sounds by torchaudio's wav2vec 2.0 and HuBERT, which are one architecture trained in two ways.

A parameter `NAME` of the torchaudio model is `tower.NAME` here.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import nn
from torchaudio.models import wav2vec2_model

from omnicompose.encoders.encoder import Config
from omnicompose.errors import MediaError
from omnicompose.settings import read_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Wav2Vec2Settings:
    """Configuration of `Wav2Vec2`.

    Attributes:
        convolutions: (width, kernel, stride) of each convolution over samples.
        extractor_mode: `group_norm` or `layer_norm` in the convolutions.
        conv_bias: whether these have biases.
        hidden_size: width E of the features.
        intermediate_size: width of the feed-forward layers.
        num_layers: transformer layers.
        num_heads: attention heads.
        position_kernel: features that the position convolution sees.
        position_groups: its groups.
        layer_norm_first: whether layers normalise before rather than after.
        feature_layer: after how many layers the features are taken; null: the model's own output.
    """

    convolutions: list[list[int]]
    extractor_mode: str
    conv_bias: bool
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    position_kernel: int = 128
    position_groups: int = 16
    layer_norm_first: bool = False
    feature_layer: int | None = None


class Wav2Vec2(nn.Module):
    """Samples `[N, S]` to features `[N, M, E]`."""

    def __init__(self, settings: Wav2Vec2Settings) -> None:
        """Build the tower with fresh weights."""
        super().__init__()
        self.settings = settings
        self.feature_size = settings.hidden_size
        self.tower = wav2vec2_model(
            extractor_mode=settings.extractor_mode,
            extractor_conv_layer_config=[tuple(layer) for layer in settings.convolutions],
            extractor_conv_bias=settings.conv_bias,
            encoder_embed_dim=settings.hidden_size,
            encoder_projection_dropout=0.0,
            encoder_pos_conv_kernel=settings.position_kernel,
            encoder_pos_conv_groups=settings.position_groups,
            encoder_num_layers=settings.num_layers,
            encoder_num_heads=settings.num_heads,
            encoder_attention_dropout=0.0,
            encoder_ff_interm_features=settings.intermediate_size,
            encoder_ff_interm_dropout=0.0,
            encoder_dropout=0.0,
            encoder_layer_norm_first=settings.layer_norm_first,
            encoder_layer_drop=0.0,
            aux_num_out=None,
        )

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Build the module with fresh weights from its JSON configuration."""
        return cls(_read(config))

    @staticmethod
    def num_features(config: Config, media_shape: tuple[int, ...]) -> int:
        """What the convolutions leave of `(S,)` samples.

        Raises:
            MediaError: they leave nothing.
        """
        number = media_shape[-1]
        for _, kernel, stride in _read(config).convolutions:
            number = (number - kernel) // stride + 1
        if number < 1:
            raise MediaError(
                f"sound: found {media_shape[-1]} samples, too few for a single feature of this "
                "encoder. Give a longer sound."
            )
        return number

    def forward(self, media: torch.Tensor) -> torch.Tensor:
        """Features `[N, M, E]` of normalised samples `[N, S]`."""
        layer = self.settings.feature_layer
        if layer is None:
            features, _ = self.tower(media)
        else:
            features = self.tower.extract_features(media, num_layers=layer)[0][-1]
        found: torch.Tensor = features
        return found


def _read(config: Config) -> Wav2Vec2Settings:
    return read_settings(Wav2Vec2Settings, config, "encoder 'wav2vec2'")
