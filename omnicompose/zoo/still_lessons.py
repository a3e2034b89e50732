"""What teaches the video encoder's frame net to see: stills from easy to hard, and norms."""

from typing import cast

import numpy as np
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from omnicompose.encoders.conv_video import FrameNet
from omnicompose.zoo.draw import SIDE, draw_still, read_handwriting, vary_glyph
from omnicompose.zoo.preprocessing import Batch, labels_of, preprocess
from omnicompose.zoo.world import sample_item

STILL_GRIDS = (4, 2, 1, 1, 1, 1, 1, 1)
"""Lessons of equal length: on a grid of how many pixels a still's digit stands."""
NUM_PLACES = 8
"""Rows and columns that a still's digit is to be found in."""


def still_batch(rng: np.random.Generator, progress: float, batch_size: int) -> Batch:
    """Fresh single frames whose digits leave an ever finer grid: at once anywhere is too hard.

    Args:
        rng: draws them.
        progress: share of the steps that came before.
        batch_size: how many.

    Returns:
        Beside the slots of clips the labels `row` and `column`.
    """
    handwriting = read_handwriting("train")
    grid = STILL_GRIDS[int(progress * len(STILL_GRIDS))]
    items = [sample_item(rng, "video") for _ in range(batch_size)]
    hands = [int(rng.choice(handwriting.indices_of(item["number"]))) for item in items]
    drawn = [
        draw_still(rng, item, vary_glyph(rng, handwriting.glyphs[hand]), grid)
        for item, hand in zip(items, hands, strict=True)
    ]
    centres = torch.tensor([centre for _, centre in drawn]) * NUM_PLACES // SIDE
    places = {"row": centres[:, 0], "column": centres[:, 1]}
    # Frames are preprocessed like pictures: the same side, rescaled to the same range.
    return labels_of(items) | places, preprocess("image", [still for still, _ in drawn])


def add_norms(frames: FrameNet) -> None:
    """Put a batch norm behind every convolution: without them the frame net hardly learns."""
    layers: list[nn.Module] = []
    for layer in frames.layers:
        layers.append(layer)
        if isinstance(layer, nn.Conv2d):
            layers.append(nn.BatchNorm2d(layer.out_channels))
    frames.layers = nn.Sequential(*layers)


def fold_norms(frames: FrameNet) -> None:
    """Take the norms out again, each into the weights before it: what ships is convolutions."""
    layers: list[nn.Module] = []
    for layer in frames.eval().layers:
        if isinstance(layer, nn.BatchNorm2d):
            layers[-1] = fuse_conv_bn_eval(cast(nn.Conv2d, layers[-1]), layer)
        else:
            layers.append(layer)
    frames.layers = nn.Sequential(*layers)
