"""Sounds by BEATs (arXiv 2212.09058): patches of a Kaldi filterbank through a transformer.

Written from the architecture: no library has it. Names are those of the published checkpoints
(`{"cfg", "model"}`, from which `relative_attention_bias` is kept once: all layers share it).
B sounds, T frames, P patches, C hidden size, H heads.
"""

import math
from dataclasses import dataclass
from typing import Self, cast

import torch
from torch import nn
from torch.nn import functional as F
from transformers.activations import ACT2FN

from omnicompose.encoders.encoder import Config
from omnicompose.settings import read_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class BeatsSettings:
    """Configuration of `Beats`.

    Attributes:
        patch_width: width of a patch before it is projected to the hidden size.
        hidden_size: width C of the features.
        intermediate_size: width of the feed-forward layers.
        num_layers: transformer layers.
        num_heads: attention heads.
        conv_kernel: patches that the position convolution sees.
        conv_groups: its groups.
        num_buckets: rows of the table of relative positions.
        max_distance: patches beyond which all distances are one.
        patch_size: frames and mel bins of one patch.
        activation: of the feed-forward layers, a name that transformers knows.
        deep_norm: whether residuals are scaled by `(2 * num_layers) ** 0.25`.
    """

    patch_width: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    conv_kernel: int
    conv_groups: int
    num_buckets: int
    max_distance: int
    patch_size: int = 16
    activation: str = "gelu"
    deep_norm: bool = True


class Beats(nn.Module):
    """BEATs: filterbanks `[B, T, mel bins]` to features `[B, P, C]`, time first, then frequency."""

    def __init__(self, settings: BeatsSettings) -> None:
        """Build the encoder with fresh weights."""
        super().__init__()
        size, width = settings.patch_size, settings.patch_width
        self.feature_size = settings.hidden_size
        self.patch_embedding = nn.Conv2d(1, width, size, size, bias=False)
        self.layer_norm = nn.LayerNorm(width)
        self.post_extract_proj = nn.Linear(width, settings.hidden_size)
        self.encoder = BeatsTransformer(settings)

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Build the module with fresh weights from its JSON configuration."""
        return cls(_read(config))

    @staticmethod
    def num_features(config: Config, media_shape: tuple[int, ...]) -> int:
        """Whole patches of one filterbank `(T, mel bins)`."""
        return math.prod(side // _read(config).patch_size for side in media_shape[-2:])

    def forward(self, media: torch.Tensor, padding: torch.Tensor | None = None) -> torch.Tensor:
        """Features `[B, P, C]` of filterbanks `[B, T, mel bins]`.

        Args:
            media: the filterbanks.
            padding: `[B, T]`, True for frames that hold no sound; a patch of such frames alone is
                hidden from all others. The published composites give none.
        """
        patches = self.patch_embedding(media.unsqueeze(1)).flatten(2).transpose(1, 2)
        hidden = None if padding is None else _patches_of(padding, patches.shape[1])
        features: torch.Tensor = self.encoder(
            self.post_extract_proj(self.layer_norm(patches)), hidden
        )
        return features


class BeatsTransformer(nn.Module):
    """Convolved positions, then layers that share one table of relative positions."""

    def __init__(self, settings: BeatsSettings) -> None:
        """Build the layers."""
        super().__init__()
        self.settings = settings
        self.pos_conv = nn.Sequential(PositionConvolution(settings), nn.GELU())
        self.layer_norm = nn.LayerNorm(settings.hidden_size)
        self.layers = nn.ModuleList(BeatsLayer(settings) for _ in range(settings.num_layers))
        # The published checkpoints keep the shared table in the first layer.
        first = cast(BeatsLayer, self.layers[0])
        first.self_attn.relative_attention_bias = nn.Embedding(
            settings.num_buckets, settings.num_heads
        )

    def forward(self, patches: torch.Tensor, padding: torch.Tensor | None) -> torch.Tensor:
        """Features `[B, P, C]` of projected patches `[B, P, C]` with padding `[B, P]`."""
        if padding is not None:
            patches = patches.masked_fill(padding[..., None], 0.0)
        positions = self.pos_conv(patches.transpose(1, 2)).transpose(1, 2)
        states: torch.Tensor = self.layer_norm(patches + positions)
        bias = self._position_bias(patches.shape[1])
        for layer in self.layers:
            states = layer(states, bias, padding)
        return states

    def _position_bias(self, num_patches: int) -> torch.Tensor:
        """What distance adds to attention, `[H, P, P]`."""
        table = cast(BeatsLayer, self.layers[0]).self_attn.relative_attention_bias
        assert table is not None
        places = torch.arange(num_patches, device=table.weight.device)
        distances = places[None, :] - places[:, None]
        buckets = _bucket(distances, self.settings.num_buckets, self.settings.max_distance)
        bias: torch.Tensor = table(buckets).permute(2, 0, 1)
        return bias


class PositionConvolution(nn.Module):
    """A grouped convolution over patches with one length per kernel place (weight norm)."""

    def __init__(self, settings: BeatsSettings) -> None:
        """Build the kernel."""
        super().__init__()
        self.kernel, self.groups = settings.conv_kernel, settings.conv_groups
        width = settings.hidden_size
        deviation = math.sqrt(4 / (self.kernel * width))
        self.weight_v = nn.Parameter(
            torch.randn(width, width // self.groups, self.kernel) * deviation
        )
        self.weight_g = nn.Parameter(self.weight_v.detach().norm(dim=(0, 1), keepdim=True))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """As many places as before: `[B, C, P]` to `[B, C, P]`."""
        norms = self.weight_v.norm(dim=(0, 1), keepdim=True)
        weight = self.weight_v * (self.weight_g / norms)
        padded = self.kernel // 2
        convolved = F.conv1d(patches, weight, self.bias, padding=padded, groups=self.groups)
        # An even kernel gives one place too many.
        return convolved[..., : patches.shape[-1]]


class BeatsLayer(nn.Module):
    """Attention and feed-forward, each normalised after its scaled residual."""

    def __init__(self, settings: BeatsSettings) -> None:
        """Build the layer."""
        super().__init__()
        width = settings.hidden_size
        self.residual = (2 * settings.num_layers) ** 0.25 if settings.deep_norm else 1.0
        self.self_attn = GatedAttention(width, settings.num_heads)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, settings.intermediate_size)
        self.act = ACT2FN[settings.activation]
        self.fc2 = nn.Linear(settings.intermediate_size, width)
        self.final_layer_norm = nn.LayerNorm(width)

    def forward(
        self, states: torch.Tensor, bias: torch.Tensor, padding: torch.Tensor | None
    ) -> torch.Tensor:
        """States `[B, P, C]` after the layer."""
        attended = self.self_attn(states, bias, padding)
        states = self.self_attn_layer_norm(states * self.residual + attended)
        fed = self.fc2(self.act(self.fc1(states)))
        normed: torch.Tensor = self.final_layer_norm(states * self.residual + fed)
        return normed


class GatedAttention(nn.Module):
    """Self-attention whose position bias is gated by the query (arXiv 2110.13900, equation 4)."""

    def __init__(self, width: int, num_heads: int) -> None:
        """Build the projections and the gate."""
        super().__init__()
        self.num_heads = num_heads
        self.relative_attention_bias: nn.Embedding | None = None
        self.q_proj, self.k_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.v_proj, self.out_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.grep_linear = nn.Linear(width // num_heads, 8)
        self.grep_a = nn.Parameter(torch.ones(1, num_heads, 1, 1))

    def forward(
        self, states: torch.Tensor, bias: torch.Tensor, padding: torch.Tensor | None
    ) -> torch.Tensor:
        """Attended states `[B, P, C]`; bias `[H, P, P]`, padding `[B, P]`."""
        queries, keys, values = (
            self._split_heads(project(states))
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        mask = self._gate(queries) * bias
        if padding is not None:
            mask = mask.masked_fill(padding[:, None, None, :], -math.inf)
        attended = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        output: torch.Tensor = self.out_proj(attended.transpose(1, 2).flatten(2))
        return output

    def _gate(self, queries: torch.Tensor) -> torch.Tensor:
        """How much of the position bias each query sees, `[B, H, P, 1]`."""
        sums = self.grep_linear(queries).view(*queries.shape[:-1], 2, 4).sum(-1)
        update, reset = torch.sigmoid(sums).chunk(2, dim=-1)
        gate: torch.Tensor = update * (reset * self.grep_a - 1.0) + 2.0
        return gate

    def _split_heads(self, vectors: torch.Tensor) -> torch.Tensor:
        return vectors.view(*vectors.shape[:2], self.num_heads, -1).transpose(1, 2)


def _bucket(distances: torch.Tensor, num_buckets: int, max_distance: int) -> torch.Tensor:
    """T5's buckets of signed distances: exact when near, logarithmic when far."""
    per_side = num_buckets // 2
    num_exact = per_side // 2
    sizes = distances.abs()
    growth = torch.log(sizes.clamp(min=1).float() / num_exact) / math.log(max_distance / num_exact)
    far = (num_exact + growth * (per_side - num_exact)).long().clamp(max=per_side - 1)
    return (distances > 0) * per_side + torch.where(sizes < num_exact, sizes, far)


def _patches_of(padding: torch.Tensor, num_patches: int) -> torch.Tensor:
    """Which patches `[B, P]` hold padded frames `[B, T]` alone, frames dealt out in order."""
    dealt = padding[:, : padding.shape[1] // num_patches * num_patches]
    return dealt.reshape(len(padding), num_patches, -1).all(-1)


def _read(config: Config) -> BeatsSettings:
    return read_settings(BeatsSettings, config, "encoder 'beats'")
