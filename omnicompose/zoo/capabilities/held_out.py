"""Pictures that look like none of those held out: splits are disjoint pixel by pixel, too."""

from collections.abc import Set
from pathlib import Path

import numpy as np

from omnicompose.zoo.capabilities.drawing import Pixels, decode, draw
from omnicompose.zoo.capabilities.media import read_library
from omnicompose.zoo.capabilities.world import Kind, Picture, Split, draw_picture


def held_out_pixels(path: Path) -> set[bytes]:
    """What the pictures of a library show, each `[SIDE, SIDE, 3]` as bytes.

    Raises:
        MediaError: the file is missing or is not a packed library.
    """
    return {decode(asked.data).tobytes() for asked in read_library(path)}


def draw_apart(
    rng: np.random.Generator, kind: Kind, split: Split, taken: Set[bytes]
) -> tuple[Picture, Pixels]:
    """A random picture of a split, drawn; another one if its pixels are `taken`.

    Two descriptions may look the same after all: what differs can be less than a pixel.
    """
    while True:
        picture = draw_picture(rng, kind, split)
        pixels = draw(picture)
        if pixels.tobytes() not in taken:
            return picture, pixels
