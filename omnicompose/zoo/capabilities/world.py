"""What the capability zoo's pictures show, and who may see which: names and numbers, no drawing.

Every picture is described completely, down to the pixel where a thing stands. The digest of what
can be seen of it, whatever it is called, decides whether it is for training, validation or test:
so no two splits share a picture, whoever draws how many.
"""

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np

Split = Literal["train", "validation", "test"]
Kind = Literal["scene", "figure", "chart", "word"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

SIDE = 64
"""Height and width of every picture in pixels."""
GRID = 4
"""Scenes have so many rows and columns."""
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 39, 40),
    "green": (44, 160, 44),
    "blue": (31, 90, 200),
    "yellow": (235, 190, 20),
    "purple": (140, 60, 170),
}
SHAPES = ("circle", "square", "triangle", "star", "cross")
SIDES = (3, 4, 5, 6, 8)
DEGREES = (30, 60, 90, 120, 150)
LIES = ("parallel", "slanted", "upright")
"""How two lines lie to one another: at 0, 45 or 90 degrees."""
SUBJECTS: dict[str, tuple[int | str, ...]] = {"polygon": SIDES, "angle": DEGREES, "lines": LIES}
FORMS = ("bars", "rows", "pie")
ALPHABET = "AEHKMNRSTX"
FONTS = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif", "DejaVuSansMono-Bold", "STIXGeneralBol")
"""Files that matplotlib ships, without `.ttf`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """One thing of a scene.

    Attributes:
        shape: one of `SHAPES`.
        colour: one of `COLOURS`.
        cell: where it stands, `row * GRID + column`.
        size: its width in pixels.
        shift: how far from the middle of its cell, in pixels.
    """

    shape: str
    colour: str
    cell: int
    size: int
    shift: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Things on a grid, one of them perhaps boxed.

    Attributes:
        things: each of another shape or colour.
        box: which thing stands in a box; None: no box.
        shade: brightness of the ground.
    """

    things: tuple[Thing, ...]
    box: int | None
    shade: int
    kind: Kind = "scene"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A geometric figure.

    Attributes:
        subject: one of `SUBJECTS`.
        value: its sides, its degrees, or how its lines lie.
        colour: of the drawing.
        filled: whether a polygon is filled.
        turn: degrees by which it is turned.
        size: its radius in pixels.
        shift: how far from the middle, in pixels.
    """

    subject: str
    value: int | str
    colour: str
    filled: bool
    turn: int
    size: int
    shift: tuple[int, int]
    kind: Kind = "figure"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A chart of a few values, one colour each.

    Attributes:
        form: upright bars, lying bars (`rows`) or a pie.
        colours: of the values, in drawing order.
        values: 1 to 9, all different.
        grid: whether lines mark the scale.
    """

    form: str
    colours: tuple[str, ...]
    values: tuple[int, ...]
    grid: bool
    kind: Kind = "chart"


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """Three printed letters.

    Attributes:
        letters: of `ALPHABET`.
        font: one of `FONTS`.
        colour: of the print.
        size: of the font in pixels.
        shift: how far from the middle, in pixels.
    """

    letters: str
    font: str
    colour: str
    size: int
    shift: tuple[int, int]
    kind: Kind = "word"


Picture = Scene | Figure | Chart | Word


def split_of(picture: Picture) -> Split:
    """Whose picture it is; look-alikes belong together.

    So do all prints of one word, all charts of one table of shares, and a scene on any ground.
    """
    digest = hashlib.sha256(json.dumps(_identity(picture)).encode()).digest()[0]
    return "test" if digest < 52 else "validation" if digest < 78 else "train"


def draw_picture(rng: np.random.Generator, kind: Kind, split: Split) -> Picture:
    """A random picture of a kind that belongs to a split."""
    while split_of(picture := _MAKERS[kind](rng)) != split:
        pass
    return picture


def _identity(picture: Picture) -> object:
    if isinstance(picture, Scene):
        return _scene_identity(picture)
    if isinstance(picture, Figure):
        return _figure_identity(picture)
    return _chart_identity(picture) if isinstance(picture, Chart) else picture.letters


def _scene_identity(scene: Scene) -> object:
    order = sorted(range(len(scene.things)), key=lambda i: scene.things[i].cell)
    return [asdict(scene.things[i]) | {"boxed": i == scene.box} for i in order]


def _figure_identity(figure: Figure) -> object:
    """Only polygons can be filled; each figure looks the same after some turn."""
    if figure.subject == "polygon":
        same_after = 360 / int(figure.value)
    else:
        same_after = {"parallel": 180, "slanted": 180, "upright": 90}.get(str(figure.value), 360)
    filled = figure.filled and figure.subject == "polygon"
    return asdict(replace(figure, filled=filled, turn=0)) | {"turn": figure.turn % same_after}


def _chart_identity(chart: Chart) -> object:
    """A pie shows 2, 4 and 6 as it shows 1, 2 and 3."""
    common = math.gcd(*chart.values)
    return [chart.colours, [value // common for value in chart.values]]


def _some(rng: np.random.Generator, values: tuple[str, ...], count: int) -> tuple[str, ...]:
    return tuple(values[i] for i in rng.permutation(len(values))[:count])


def _shift(rng: np.random.Generator, most: int) -> tuple[int, int]:
    across, down = rng.integers(-most, most + 1, size=2).tolist()
    return across, down


def _scene(rng: np.random.Generator) -> Scene:
    count = int(rng.integers(2, 6))
    # Few colours and shapes, so that some repeat and counting means something.
    colours = _some(rng, tuple(COLOURS), 3)
    shapes = _some(rng, SHAPES, 3)
    looks = [(shape, colour) for shape in shapes for colour in colours]
    chosen = rng.permutation(len(looks))[:count]
    cells = rng.permutation(GRID * GRID)[:count].tolist()
    things = tuple(
        Thing(
            shape=looks[i][0],
            colour=looks[i][1],
            cell=cell,
            size=int(rng.integers(11, 15)),
            shift=_shift(rng, 1),
        )
        for i, cell in zip(chosen, cells, strict=True)
    )
    box = int(rng.integers(count)) if rng.random() < 0.5 else None
    return Scene(things=things, box=box, shade=int(rng.integers(225, 256)))


def _figure(rng: np.random.Generator) -> Figure:
    subject = tuple(SUBJECTS)[int(rng.integers(len(SUBJECTS)))]
    values = SUBJECTS[subject]
    return Figure(
        subject=subject,
        value=values[int(rng.integers(len(values)))],
        colour=_some(rng, tuple(COLOURS), 1)[0],
        filled=bool(rng.random() < 0.5),
        turn=int(rng.integers(360)),
        size=int(rng.integers(20, 28)),
        shift=_shift(rng, 3),
    )


def _chart(rng: np.random.Generator) -> Chart:
    count = int(rng.integers(3, 5))
    return Chart(
        form=FORMS[int(rng.integers(len(FORMS)))],
        colours=_some(rng, tuple(COLOURS), count),
        values=tuple(int(v) for v in 1 + rng.permutation(9)[:count]),
        grid=bool(rng.random() < 0.5),
    )


def _word(rng: np.random.Generator) -> Word:
    return Word(
        letters="".join(ALPHABET[i] for i in rng.integers(len(ALPHABET), size=3)),
        font=FONTS[int(rng.integers(len(FONTS)))],
        colour=_some(rng, tuple(COLOURS), 1)[0],
        size=int(rng.integers(20, 25)),
        shift=_shift(rng, 2),
    )


_MAKERS: dict[Kind, Callable[[np.random.Generator], Picture]] = {
    "scene": _scene,
    "figure": _figure,
    "chart": _chart,
    "word": _word,
}
