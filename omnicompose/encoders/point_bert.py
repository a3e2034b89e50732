"""Point clouds by Point-BERT (arXiv 2111.14819): groups of near points through a transformer.

Written from the architecture: no library has it. Names are those of the published checkpoints. The
published code begins its farthest-point sampling at a random point of every cloud; here it begins
at a fixed one, so that a cloud has one answer.
B clouds, P points, G groups of K points, C width.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import nn
from torch.nn import functional as F

from omnicompose.encoders.encoder import Config
from omnicompose.errors import MediaError
from omnicompose.settings import read_settings

POSITION_WIDTH = 128
POINT_WIDTHS = (128, 256, 512)
"""Widths of the small nets that embed positions and groups; the same in every checkpoint."""
MLP_RATIO = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class PointBertSettings:
    """Configuration of `PointBert`.

    Attributes:
        hidden_size: width C of the features.
        num_layers: transformer layers.
        num_heads: attention heads.
        num_groups: groups G that a cloud is cut into.
        group_size: points K of one group.
        group_width: width of a group before it is reduced to the hidden size.
        point_size: numbers per point: 3 for xyz, 6 for xyz and colour.
        first_point: index of the point at which sampling begins.
    """

    hidden_size: int
    num_layers: int
    num_heads: int
    num_groups: int
    group_size: int
    group_width: int
    point_size: int = 6
    first_point: int = 0


class PointBert(nn.Module):
    """Clouds `[B, P, point size]` to features `[B, 1 + G, C]`: the class token, then the groups.

    Attributes:
        media_dtype: of the clouds, whatever the weights are: which points are near one another is
            decided by coordinates that half precision would round.
    """

    media_dtype = torch.float32

    def __init__(self, settings: PointBertSettings) -> None:
        """Build the encoder with fresh weights."""
        super().__init__()
        width = settings.hidden_size
        self.settings = settings
        self.feature_size = width
        self.encoder = GroupNet(settings.point_size, settings.group_width)
        self.reduce_dim = nn.Linear(settings.group_width, width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.cls_pos = nn.Parameter(torch.randn(1, 1, width))
        self.pos_embed = nn.Sequential(
            nn.Linear(3, POSITION_WIDTH), nn.GELU(), nn.Linear(POSITION_WIDTH, width)
        )
        self.blocks = Blocks(settings)
        self.norm = nn.LayerNorm(width)

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Build the module with fresh weights from its JSON configuration."""
        return cls(_read(config))

    @staticmethod
    def num_features(config: Config, media_shape: tuple[int, ...]) -> int:
        """The class token and one per group, whatever the number of points `(P, point size)`.

        Raises:
            MediaError: the cloud has too few points, or points of another size.
        """
        settings = _read(config)
        check_cloud(settings, media_shape)
        return 1 + settings.num_groups

    def forward(self, media: torch.Tensor) -> torch.Tensor:
        """Features `[B, 1 + G, C]` of clouds `[B, P, point size]`.

        Raises:
            MediaError: the clouds have too few points, or points of another size.
        """
        settings = self.settings
        check_cloud(settings, tuple(media.shape[1:]))
        centres = farthest_points(media[..., :3], settings.num_groups, settings.first_point)
        groups = nearest_points(media, centres, settings.group_size)
        weights = self.reduce_dim.weight.dtype
        tokens = self.reduce_dim(self.encoder(groups.to(weights)))
        num_clouds = len(media)
        tokens = torch.cat([self.cls_token.expand(num_clouds, -1, -1), tokens], dim=1)
        places = torch.cat(
            [self.cls_pos.expand(num_clouds, -1, -1), self.pos_embed(centres.to(weights))], dim=1
        )
        features: torch.Tensor = self.norm(self.blocks(tokens, places))
        return features


class GroupNet(nn.Module):
    """Groups of points to one vector each, whatever the order of a group's points."""

    def __init__(self, point_size: int, group_width: int) -> None:
        """Build both nets; the second sees each point beside the strongest of its group."""
        super().__init__()
        narrow, middle, wide = POINT_WIDTHS
        self.first_conv = _two_convolutions(point_size, narrow, middle)
        self.second_conv = _two_convolutions(2 * middle, wide, group_width)

    def forward(self, groups: torch.Tensor) -> torch.Tensor:
        """Vectors `[B, G, group width]` of groups `[B, G, K, point size]`."""
        points = self.first_conv(groups.flatten(0, 1).transpose(1, 2))
        strongest = points.amax(dim=2, keepdim=True).expand_as(points)
        points = self.second_conv(torch.cat([strongest, points], dim=1))
        vectors: torch.Tensor = points.amax(dim=2)
        return vectors.view(*groups.shape[:2], -1)


def _two_convolutions(before: int, between: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(before, between, 1),
        nn.BatchNorm1d(between),
        nn.ReLU(),
        nn.Conv1d(between, after, 1),
    )


class Blocks(nn.Module):
    """The transformer; every layer is told the places again."""

    def __init__(self, settings: PointBertSettings) -> None:
        """Build the layers."""
        super().__init__()
        self.blocks = nn.ModuleList(
            Block(settings.hidden_size, settings.num_heads) for _ in range(settings.num_layers)
        )

    def forward(self, tokens: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Tokens `[B, 1 + G, C]` at places `[B, 1 + G, C]`."""
        for block in self.blocks:
            tokens = block(tokens + places)
        return tokens


class Block(nn.Module):
    """Attention and feed-forward, each normalised before."""

    def __init__(self, width: int, num_heads: int) -> None:
        """Build the layer."""
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = Attention(width, num_heads)
        self.mlp = FeedForward(width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens `[B, 1 + G, C]` after the layer."""
        tokens = tokens + self.attn(self.norm1(tokens))
        after: torch.Tensor = tokens + self.mlp(self.norm2(tokens))
        return after


class Attention(nn.Module):
    """Self-attention with one matrix for queries, keys and values."""

    def __init__(self, width: int, num_heads: int) -> None:
        """Build the projections."""
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Attended tokens `[B, L, C]`."""
        split = self.qkv(tokens).view(*tokens.shape[:2], 3, self.num_heads, -1)
        attended = F.scaled_dot_product_attention(*split.permute(2, 0, 3, 1, 4))
        output: torch.Tensor = self.proj(attended.transpose(1, 2).flatten(2))
        return output


class FeedForward(nn.Module):
    """Two maps with a GELU between."""

    def __init__(self, width: int) -> None:
        """Build the maps."""
        super().__init__()
        self.fc1 = nn.Linear(width, MLP_RATIO * width)
        self.fc2 = nn.Linear(MLP_RATIO * width, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens `[B, L, C]`, each by itself."""
        output: torch.Tensor = self.fc2(F.gelu(self.fc1(tokens)))
        return output


def farthest_points(xyz: torch.Tensor, number: int, first: int) -> torch.Tensor:
    """Points `[B, number, 3]` of clouds `[B, P, 3]`, each the farthest from all before it.

    Args:
        xyz: the clouds.
        number: how many points.
        first: index of the one to begin with.
    """
    chosen = torch.full((len(xyz),), first, device=xyz.device)
    distances = torch.full(xyz.shape[:2], torch.inf, device=xyz.device)
    clouds = torch.arange(len(xyz), device=xyz.device)
    centres = []
    for _ in range(number):
        centre = xyz[clouds, chosen]
        centres.append(centre)
        squared = (xyz - centre[:, None]).float().square().sum(-1)
        distances = torch.minimum(distances, squared)
        chosen = distances.argmax(dim=1)
    return torch.stack(centres, dim=1)


def nearest_points(clouds: torch.Tensor, centres: torch.Tensor, number: int) -> torch.Tensor:
    """The `number` points nearest to each centre, `[B, G, number, C]`, seen from the centre.

    Args:
        clouds: `[B, P, C]`, xyz first; what follows them is left as it is.
        centres: `[B, G, 3]`.
        number: points of one group.
    """
    distances = torch.cdist(centres.float(), clouds[..., :3].float())
    nearest = distances.topk(number, dim=-1, largest=False).indices
    rows = torch.arange(len(clouds), device=clouds.device)[:, None, None]
    groups = clouds[rows, nearest]
    return torch.cat([groups[..., :3] - centres[:, :, None], groups[..., 3:]], dim=-1)


def check_cloud(settings: PointBertSettings, shape: tuple[int, ...]) -> None:
    """Refuse a cloud `(P, C)` that cannot be grouped.

    Raises:
        MediaError: it has too few points, or points of another size.
    """
    least = max(settings.num_groups, settings.group_size)
    if len(shape) != 2 or shape[0] < least or shape[1] != settings.point_size:
        raise MediaError(
            f"point cloud: found an array of shape {list(shape)}, expected at least {least} points "
            f"of {settings.point_size} numbers each: xyz, then colour. Give such a cloud."
        )


def _read(config: Config) -> PointBertSettings:
    return read_settings(PointBertSettings, config, "encoder 'point_bert'")
