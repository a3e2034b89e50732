"""How many features a library's own model gives, found by running it without numbers."""

import json
from collections.abc import Callable
from functools import lru_cache
from typing import cast

import torch

from omnicompose.encoders.encoder import Config

Build = Callable[[Config], Callable[[torch.Tensor], torch.Tensor]]


def count_features(build: Build, config: Config, media_shape: tuple[int, ...]) -> int:
    """Features M of one medium, from a module on the meta device: no weights, no arithmetic.

    Args:
        build: makes the encoder from its configuration.
        config: JSON.
        media_shape: of one preprocessed medium.
    """
    return _count(build, json.dumps(dict(config), sort_keys=True), tuple(media_shape))


@lru_cache(maxsize=64)
def _count(build: Build, config: str, media_shape: tuple[int, ...]) -> int:
    with torch.device("meta"), torch.no_grad():
        encoder = build(json.loads(config))
        cast(torch.nn.Module, encoder).eval()
        return int(encoder(torch.empty(1, *media_shape)).shape[1])
