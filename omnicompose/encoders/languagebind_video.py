"""Clips by LanguageBind's video tower (arXiv 2310.01852): CLIP that also attends over time.

Before each layer of transformers' CLIP every place of the picture looks at itself in the other
frames. A parameter `vision_model.encoder.layers.N.temporal_NAME` of the published checkpoint is
`temporal.N.temporal_NAME` here, any other `vision_model.NAME` is `tower.NAME`.
B clips, T frames, M tokens of a frame, C width.
"""

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel
from transformers.models.clip.modeling_clip import CLIPAttention

from omnicompose.encoders.encoder import Config
from omnicompose.errors import MediaError
from omnicompose.settings import read_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageBindVideoSettings:
    """Configuration of `LanguageBindVideo`.

    Attributes:
        vision_config: a `CLIPVisionConfig` as JSON.
        num_frames: frames that look at each other; a clip has 1 or a multiple of it.
        feature_layer: which hidden states are the features; -1 is the last layer's output.
    """

    vision_config: dict[str, object]
    num_frames: int = 8
    feature_layer: int = -2


class LanguageBindVideo(nn.Module):
    """Clips `[B, T, 3, H, W]` to features `[B, T * M, C]`, class tokens of all frames included."""

    def __init__(self, settings: LanguageBindVideoSettings) -> None:
        """Build the tower with fresh weights."""
        super().__init__()
        self.settings = settings
        self.tower = CLIPVisionModel(CLIPVisionConfig(**settings.vision_config))
        config = self.tower.config
        self.feature_size = config.hidden_size
        self.temporal = nn.ModuleList(
            TemporalAttention(config, settings.num_frames) for _ in range(config.num_hidden_layers)
        )
        self.num_layers = _num_layers(config.num_hidden_layers, settings.feature_layer)

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Build the module with fresh weights from its JSON configuration."""
        return cls(_read(config))

    @staticmethod
    def num_features(config: Config, media_shape: tuple[int, ...]) -> int:
        """Class token and patches of every frame of a clip `(T, 3, H, W)`.

        Raises:
            MediaError: a number of frames that the tower cannot group.
        """
        settings = _read(config)
        _group_size(settings, media_shape[0])
        patch_size: int = CLIPVisionConfig(**settings.vision_config).patch_size
        return media_shape[0] * (1 + math.prod(side // patch_size for side in media_shape[-2:]))

    def forward(self, media: torch.Tensor) -> torch.Tensor:
        """Features `[B, T * M, C]` of clips `[B, T, 3, H, W]`.

        Raises:
            MediaError: a number of frames that the tower cannot group.
        """
        num_clips, num_frames = media.shape[:2]
        group_size = _group_size(self.settings, num_frames)
        embedded = self.tower.embeddings(media.flatten(0, 1))
        states: torch.Tensor = self.tower.pre_layrnorm(embedded)
        layers = zip(self.temporal, self.tower.encoder.layers, strict=True)
        for _, (temporal, layer) in zip(range(self.num_layers), layers, strict=False):
            states = layer(temporal(states, group_size), None)
        return states.reshape(num_clips, -1, self.feature_size)


class TemporalAttention(nn.Module):
    """Every place of a picture attends to the same place of the frames in its group."""

    def __init__(self, config: CLIPVisionConfig, num_frames: int) -> None:
        """Build the attention."""
        super().__init__()
        width = config.hidden_size
        self.temporal_embedding = nn.Parameter(torch.randn(1, num_frames, width) * width**-0.5)
        self.temporal_layer_norm1 = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.temporal_attn = CLIPAttention(config)

    def forward(self, states: torch.Tensor, group_size: int) -> torch.Tensor:
        """States `[B * T, M, C]` after looking at the other frames, `group_size` together."""
        num_tokens, width = states.shape[1:]
        grouped = states.view(-1, group_size, num_tokens, width).transpose(1, 2)
        if group_size > 1:
            grouped = grouped + self.temporal_embedding[:, :group_size]
        rows = grouped.reshape(-1, group_size, width)
        attended, _ = self.temporal_attn(self.temporal_layer_norm1(rows), attention_mask=None)
        by_frame: torch.Tensor = (rows + attended).view(grouped.shape).transpose(1, 2)
        return by_frame.reshape(states.shape)


def _group_size(settings: LanguageBindVideoSettings, num_frames: int) -> int:
    """Frames that look at each other: all of the trained length, or each by itself."""
    if num_frames == 1:
        return 1
    if num_frames % settings.num_frames:
        raise MediaError(
            f"clip: found {num_frames} frames, expected 1 or a multiple of {settings.num_frames}, "
            "which this encoder was trained with. Choose frames accordingly."
        )
    return settings.num_frames


def _num_layers(depth: int, feature_layer: int) -> int:
    """Layers to run for hidden states counted from the embeddings (0) or from the end (-1)."""
    return feature_layer if feature_layer >= 0 else depth + 1 + feature_layer


def _read(config: Config) -> LanguageBindVideoSettings:
    return read_settings(LanguageBindVideoSettings, config, "encoder 'languagebind_video'")
