"""What is asked about the capability zoo's pictures: one word each, of a closed set."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from omnicompose.zoo.capabilities.world import (
    ALPHABET,
    COLOURS,
    DEGREES,
    GRID,
    LIES,
    SHAPES,
    SIDES,
    Chart,
    Figure,
    Kind,
    Picture,
    Scene,
    Word,
)

CAPABILITIES: dict[str, Kind] = {
    "vqa": "scene",
    "geometry": "figure",
    "chart": "chart",
    "ocr": "word",
    "grounding": "scene",
}
"""What an expert can do, and the pictures that it does it with."""
SKILL = "describe"
"""What the base can do: with pictures of every kind."""
PRIMER = "primer"
"""A little of every capability, which the base is shown too."""

HUES = tuple(COLOURS)
COUNTS = tuple(map(str, range(6)))
PLACES = tuple(map(str, range(1, GRID + 1)))
VALUES = tuple(map(str, range(1, 10)))
KINDS: tuple[str, ...] = ("scene", "figure", "chart", "word")
YES_NO = ("yes", "no")
ORDINALS = ("first", "second", "third")
ON_SCALES = ("bars", "rows")
"""Charts that show values; a pie shows shares."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question with one right word.

    Attributes:
        text: what is asked.
        choices: every word that could be right for questions of its kind.
        answer: the right one.
    """

    text: str
    choices: tuple[str, ...]
    answer: str


def questions_about(picture: Picture, task: str) -> tuple[Question, ...]:
    """Everything that a task asks about a picture."""
    return tuple(_ASK[task](picture))


def caption(picture: Picture) -> str:
    """A picture told in words, as the base learns to."""
    if isinstance(picture, Scene):
        things = sorted(picture.things, key=lambda thing: thing.cell)
        return "a scene of " + ", ".join(f"{thing.colour} {thing.shape}" for thing in things)
    if isinstance(picture, Chart):
        return "a chart of " + ", ".join(picture.colours)
    return f"a {picture.colour} {picture.kind}"


def _vqa(picture: Picture) -> Iterator[Question]:
    assert isinstance(picture, Scene)
    colours = [thing.colour for thing in picture.things]
    shapes = [thing.shape for thing in picture.things]
    yield _ask("how many things are there?", COUNTS, str(len(colours)))
    for colour in dict.fromkeys(colours):
        count = str(colours.count(colour))
        yield _ask(f"how many {colour} things are there?", COUNTS, count)
    for shape in dict.fromkeys(shapes):
        count = str(shapes.count(shape))
        yield _ask(f"how many of them are a {shape}?", COUNTS, count)
    for thing in picture.things:
        if shapes.count(thing.shape) == 1:
            yield _ask(f"which colour is the {thing.shape}?", HUES, thing.colour)
        if colours.count(thing.colour) == 1:
            yield _ask(f"which shape is the {thing.colour} thing?", SHAPES, thing.shape)


def _grounding(picture: Picture) -> Iterator[Question]:
    assert isinstance(picture, Scene)
    for thing in picture.things:
        row, column = divmod(thing.cell, GRID)
        name = f"{thing.colour} {thing.shape}"
        yield _ask(f"which row holds the {name}?", PLACES, PLACES[row])
        yield _ask(f"which column holds the {name}?", PLACES, PLACES[column])
    if picture.box is not None:
        boxed = picture.things[picture.box]
        yield _ask("which colour is in the box?", HUES, boxed.colour)
        yield _ask("which shape is in the box?", SHAPES, boxed.shape)


def _geometry(picture: Picture) -> Iterator[Question]:
    assert isinstance(picture, Figure)
    text, choices = {
        "polygon": ("how many sides are drawn?", tuple(map(str, SIDES))),
        "angle": ("how many degrees has the angle?", tuple(map(str, DEGREES))),
        "lines": ("how do the lines lie?", LIES),
    }[picture.subject]
    yield _ask(text, choices, str(picture.value))


def _chart(picture: Picture) -> Iterator[Question]:
    assert isinstance(picture, Chart)
    ranked = sorted(zip(picture.values, picture.colours, strict=True))
    yield _ask("which colour has the most?", HUES, ranked[-1][1])
    yield _ask("which colour has the least?", HUES, ranked[0][1])
    if picture.form in ON_SCALES:
        for value, colour in ranked:
            yield _ask(f"which value has {colour}?", VALUES, str(value))


def _ocr(picture: Picture) -> Iterator[Question]:
    assert isinstance(picture, Word)
    for ordinal, letter in zip(ORDINALS, picture.letters, strict=True):
        yield _ask(f"which letter is {ordinal}?", tuple(ALPHABET), letter)


def _describe(picture: Picture) -> Iterator[Question]:
    yield _ask("what is shown?", KINDS, picture.kind)
    if isinstance(picture, Figure | Word):
        yield _ask("which colour is drawn?", HUES, picture.colour)
        return
    shown = (
        [thing.colour for thing in picture.things]
        if isinstance(picture, Scene)
        else list(picture.colours)
    )
    for colour in HUES:
        yield _ask(f"is there anything {colour}?", YES_NO, YES_NO[colour not in shown])
    if isinstance(picture, Scene):
        shapes = {thing.shape for thing in picture.things}
        for shape in SHAPES:
            yield _ask(f"is there any {shape}?", YES_NO, YES_NO[shape not in shapes])


def _ask(text: str, choices: tuple[str, ...], answer: str) -> Question:
    return Question(text=text, choices=choices, answer=answer)


_ASK: dict[str, Callable[[Picture], Iterator[Question]]] = {
    "vqa": _vqa,
    "geometry": _geometry,
    "chart": _chart,
    "ocr": _ocr,
    "grounding": _grounding,
    SKILL: _describe,
}
TASKS: tuple[str, ...] = tuple(_ASK)
"""The capabilities, and the base's skill last."""
