"""Pictures and clips of the zoo's world, from scikit-learn's real handwritten digits.

Handwriting is split once and for all: the held-out samples are never drawn for training.
"""

from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from omnicompose.zoo.world import SLOTS, Item

Split = Literal["train", "held-out"]
Pixels = npt.NDArray[np.uint8]
Glyph = npt.NDArray[np.float32]

SIDE = 32
"""Height and width of pictures and clips, in pixels."""
NUM_FRAMES = 6
GRID = 8
"""Digits in pictures stand on a grid of so many pixels."""
NUM_TRAINING_SAMPLES = 1300
"""Of scikit-learn's 1797 handwritten digits; the other 497 are held out."""
PIXEL_STEP = 8
"""Pixel values are multiples of this, so that noise costs few bytes in a file."""
NOISE = 8.0
"""Standard deviation of the noise on every pixel, of 255."""

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (1.0, 0.1, 0.1),
    "green": (0.1, 0.9, 0.2),
    "blue": (0.2, 0.3, 1.0),
    "yellow": (0.95, 0.9, 0.1),
}
SPEEDS: dict[str, tuple[float, float]] = {"slow": (0.7, 1.2), "fast": (2.4, 3.1)}
"""Range of a clip's motion in pixels per frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handwriting:
    """The handwritten digits of one split.

    Attributes:
        glyphs: `[n, 8, 8]`, ink from 0 to 1.
        numbers: `[n]`, the digit that each one is.
        sample_ids: `[n]`, its row in scikit-learn's data set.
    """

    glyphs: Glyph
    numbers: npt.NDArray[np.int64]
    sample_ids: npt.NDArray[np.int64]

    def indices_of(self, number: int) -> npt.NDArray[np.int64]:
        """Where the glyphs of one digit are."""
        return np.flatnonzero(self.numbers == number)


@cache
def read_handwriting(split: Split) -> Handwriting:
    """The handwriting of `split`; needs scikit-learn (extra `zoo`)."""
    from sklearn.datasets import load_digits

    ink, numbers = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(ink))
    ids = order[:NUM_TRAINING_SAMPLES] if split == "train" else order[NUM_TRAINING_SAMPLES:]
    glyphs = (ink[ids].reshape(-1, 8, 8) / 16).astype(np.float32)
    return Handwriting(glyphs=glyphs, numbers=numbers[ids], sample_ids=ids)


def vary_glyph(rng: np.random.Generator, glyph: Glyph) -> Glyph:
    """The same digit by a slightly different hand: turned, sheared, scaled and moved."""
    from scipy.ndimage import affine_transform

    matrix = np.eye(2) + rng.uniform(-0.14, 0.14, (2, 2))
    centre = np.full(2, 3.5)
    offset = centre - matrix @ centre + rng.uniform(-0.5, 0.5, 2)
    varied: Glyph = affine_transform(glyph, matrix, offset, order=1)
    clipped: Glyph = np.clip(varied * rng.uniform(0.85, 1.15), 0, 1)
    return clipped


def draw_picture(rng: np.random.Generator, item: Item, glyph: Glyph) -> Pixels:
    """A picture of `item`: its digit on the grid in the upper (level high) or lower half.

    Args:
        rng: places and colours it within what the item allows.
        item: of modality image.
        glyph: handwriting of the item's number, `[8, 8]`.

    Returns:
        `[SIDE, SIDE, 3]`, RGB.
    """
    ink = _sized(glyph, item)
    height = len(ink)
    free_rows = SIDE // 2 - height
    top = int(rng.integers(free_rows // GRID + 1)) * GRID
    if item.word("level") == "low":
        top += SIDE // 2
    left = int(rng.integers((SIDE - height) // GRID + 1)) * GRID
    picture: Pixels = _paint(rng, item, ink, [(top, left)])[0]
    return picture


def draw_clip(rng: np.random.Generator, item: Item, glyph: Glyph) -> Pixels:
    """A clip of `item`: its digit moves in one direction at a steady pace.

    Args:
        rng: places and colours it within what the item allows.
        item: of modality video.
        glyph: handwriting of the item's number, `[8, 8]`.

    Returns:
        `[NUM_FRAMES, SIDE, SIDE, 3]`, RGB.
    """
    ink = _sized(glyph, item)
    room = SIDE - len(ink)
    speed = rng.uniform(*SPEEDS[item.word("pace")])
    start = rng.uniform(0, max(room - speed * (NUM_FRAMES - 1), 0))
    track = int(rng.integers(room + 1))
    way = np.round(np.minimum(start + speed * np.arange(NUM_FRAMES), room)).astype(int)
    direction = item.word("direction")
    if direction in ("left", "up"):
        way = room - way
    sideways = direction in ("left", "right")
    corners = [(track, place) if sideways else (place, track) for place in way.tolist()]
    return _paint(rng, item, ink, corners)


def draw_still(
    rng: np.random.Generator, item: Item, glyph: Glyph, grid: int
) -> tuple[Pixels, tuple[int, int]]:
    """One frame as a clip of `item` might hold: its digit anywhere on a grid of `grid` pixels.

    Returns:
        `[SIDE, SIDE, 3]`, RGB, and the digit's centre: row and column in pixels.
    """
    ink = _sized(glyph, item)
    top, left = (rng.integers((SIDE - len(ink)) // grid + 1, size=2) * grid).tolist()
    still: Pixels = _paint(rng, item, ink, [(top, left)])[0]
    return still, (top + len(ink) // 2, left + len(ink) // 2)


def _sized(glyph: Glyph, item: Item) -> Glyph:
    return glyph.repeat(2, 0).repeat(2, 1) if item.word("size") == "big" else glyph


def _paint(
    rng: np.random.Generator, item: Item, ink: Glyph, corners: list[tuple[int, int]]
) -> Pixels:
    """One frame `[SIDE, SIDE, 3]` per (top, left) corner."""
    colour = np.array(COLOURS[SLOTS["colour"][item["colour"]]]) * rng.uniform(0.7, 1.0)
    canvas = rng.normal(0, NOISE, (len(corners), SIDE, SIDE, 3))
    for frame, (top, left) in zip(canvas, corners, strict=True):
        frame[top : top + len(ink), left : left + len(ink)] += 255 * ink[..., None] * colour
    stepped = np.round(np.clip(canvas, 0, 255) / PIXEL_STEP) * PIXEL_STEP
    return np.minimum(stepped, 255).astype(np.uint8)
