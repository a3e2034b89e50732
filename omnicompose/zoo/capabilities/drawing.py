"""Pictures as pixels, antialiased: shapes, figures and fonts by Pillow, charts by matplotlib."""

import math
from collections.abc import Sequence
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from omnicompose.zoo.capabilities.charts import draw_chart
from omnicompose.zoo.capabilities.world import (
    COLOURS,
    GRID,
    SIDE,
    Chart,
    Figure,
    Picture,
    Scene,
    Thing,
    Word,
)

Pixels = npt.NDArray[np.uint8]
Point = tuple[float, float]
FINE = 4
"""Drawn so many times larger, then scaled down."""
STEP = 17
"""Pixel values are multiples of this, so that a file costs few bytes."""
BLACK, WHITE = (20, 20, 20), (255, 255, 255)


def draw(picture: Picture) -> Pixels:
    """`[SIDE, SIDE, 3]`, RGB."""
    image = draw_chart(picture) if isinstance(picture, Chart) else _drawn(picture)
    small = image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    stepped = np.round(np.asarray(small, dtype=np.float32) / STEP) * STEP
    return stepped.astype(np.uint8)


def encode(pixels: Pixels, *, small: bool = False) -> bytes:
    """As PNG; `small` takes ten times as long."""
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", optimize=small, compress_level=1)
    return stream.getvalue()


def decode(data: bytes) -> Pixels:
    """What `encode` packed: `[SIDE, SIDE, 3]`, RGB."""
    return np.asarray(Image.open(BytesIO(data)).convert("RGB"))


def _drawn(picture: Scene | Figure | Word) -> Image.Image:
    ground = (picture.shade,) * 3 if isinstance(picture, Scene) else WHITE
    image = Image.new("RGB", (SIDE * FINE, SIDE * FINE), ground)
    pen = ImageDraw.Draw(image)
    if isinstance(picture, Scene):
        for place, thing in enumerate(picture.things):
            _draw_thing(pen, thing, boxed=place == picture.box)
    elif isinstance(picture, Figure):
        _FIGURES[picture.subject](pen, picture)
    else:
        _draw_word(pen, picture)
    return image


def _draw_thing(pen: ImageDraw.ImageDraw, thing: Thing, *, boxed: bool) -> None:
    cell = SIDE / GRID
    row, column = divmod(thing.cell, GRID)
    x = ((column + 0.5) * cell + thing.shift[0]) * FINE
    y = ((row + 0.5) * cell + thing.shift[1]) * FINE
    radius = thing.size / 2 * FINE
    if boxed:
        corner = cell / 2 * FINE - FINE / 2
        middle = ((column + 0.5) * cell * FINE, (row + 0.5) * cell * FINE)
        box = [middle[0] - corner, middle[1] - corner, middle[0] + corner, middle[1] + corner]
        pen.rectangle(box, outline=BLACK, width=round(1.2 * FINE))
        radius *= 0.8
    _draw_shape(pen, thing.shape, (x, y), radius, COLOURS[thing.colour])


def _draw_shape(
    pen: ImageDraw.ImageDraw,
    shape: str,
    middle: Point,
    radius: float,
    colour: tuple[int, int, int],
) -> None:
    x, y = middle
    if shape == "circle":
        pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=colour)
    elif shape == "cross":
        arm = radius * 0.32
        pen.rectangle([x - radius, y - arm, x + radius, y + arm], fill=colour)
        pen.rectangle([x - arm, y - radius, x + arm, y + radius], fill=colour)
    elif shape == "star":
        radii = [radius * 1.1 if i % 2 == 0 else radius * 0.45 for i in range(10)]
        pen.polygon(_around(middle, radii, -90), fill=colour)
    else:
        corners = {"square": 4, "triangle": 3}[shape]
        turn = 45 if shape == "square" else -90
        pen.polygon(_around(middle, [radius * 1.15] * corners, turn), fill=colour)


def _around(middle: Point, radii: Sequence[float], turn: float) -> list[Point]:
    """Points around a middle, evenly in direction, from `turn` degrees on."""
    step = 2 * math.pi / len(radii)
    start = math.radians(turn)
    return [
        (middle[0] + r * math.cos(start + i * step), middle[1] + r * math.sin(start + i * step))
        for i, r in enumerate(radii)
    ]


def _middle(shift: tuple[int, int]) -> Point:
    return (SIDE / 2 + shift[0]) * FINE, (SIDE / 2 + shift[1]) * FINE


def _draw_polygon(pen: ImageDraw.ImageDraw, figure: Figure) -> None:
    corners = _around(_middle(figure.shift), [figure.size * FINE] * int(figure.value), figure.turn)
    colour = COLOURS[figure.colour]
    fill = colour if figure.filled else None
    pen.polygon(corners, fill=fill, outline=colour, width=3 * FINE)


def _draw_angle(pen: ImageDraw.ImageDraw, figure: Figure) -> None:
    """Two rays from one point; the point lies off the middle so that both rays fit."""
    length = figure.size * FINE
    half = float(figure.value) / 2
    back = math.radians(figure.turn)
    x, y = _middle(figure.shift)
    start = x - 0.4 * length * math.cos(back), y - 0.4 * length * math.sin(back)
    for turn in (figure.turn - half, figure.turn + half):
        _draw_ray(pen, start, turn, 1.3 * length, figure.colour)


def _draw_lines(pen: ImageDraw.ImageDraw, figure: Figure) -> None:
    """Two lines, side by side if they are parallel, else across one another."""
    length = figure.size * FINE
    between = {"parallel": 0, "slanted": 45, "upright": 90}[str(figure.value)]
    x, y = _middle(figure.shift)
    aside = math.radians(figure.turn + 90)
    gap = 0.35 * length if between == 0 else 0.0
    for sign, turn in ((1, figure.turn), (-1, figure.turn + between)):
        along = math.radians(turn)
        start = (
            x + sign * gap * math.cos(aside) - length * math.cos(along),
            y + sign * gap * math.sin(aside) - length * math.sin(along),
        )
        _draw_ray(pen, start, turn, 2 * length, figure.colour)


def _draw_ray(
    pen: ImageDraw.ImageDraw, start: Point, turn: float, length: float, colour: str
) -> None:
    direction = math.radians(turn)
    end = start[0] + length * math.cos(direction), start[1] + length * math.sin(direction)
    pen.line([start, end], fill=COLOURS[colour], width=3 * FINE)


_FIGURES = {"polygon": _draw_polygon, "angle": _draw_angle, "lines": _draw_lines}


def _draw_word(pen: ImageDraw.ImageDraw, word: Word) -> None:
    font = _font(word.font, word.size * FINE)
    pen.text(_middle(word.shift), word.letters, COLOURS[word.colour], font=font, anchor="mm")


@cache
def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    import matplotlib

    return ImageFont.truetype(
        Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf", size
    )
