"""Features of one picture as the square of patches that they come from."""

import math

import torch

from omnicompose.errors import SourceError


def grid_side(num_features: int, divisor: int, where: str) -> int:
    """Patches along one side of the square.

    Args:
        num_features: of one picture.
        divisor: what must divide the side.
        where: the connector, for the message.

    Raises:
        SourceError: the features make no square, or one of another side.
    """
    side = math.isqrt(num_features)
    if side * side != num_features or side % divisor:
        raise SourceError(
            f"{where}: found {num_features} features of one picture, expected a square whose side "
            f"{divisor} divides. Leave out the class token, or change the size of the pictures."
        )
    return side


def as_grid(features: torch.Tensor, side: int) -> torch.Tensor:
    """Features `[N, side * side, E]` as maps `[N, E, side, side]`."""
    return features.transpose(1, 2).reshape(len(features), -1, side, side)


def as_sequence(maps: torch.Tensor) -> torch.Tensor:
    """Maps `[N, E, H, W]` as features `[N, H * W, E]`."""
    return maps.flatten(2).transpose(1, 2)
