"""Where the marks of a plot go; `templates/plots.html.j2` draws them as SVG.

Colours are CSS variables of the page, so a plot follows light and dark and prints.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor

from omnicompose.evaluation.statistics import Estimate, coalitions

WIDTH = 460
LABEL_WIDTH = 150
VALUE_WIDTH = 52
ROW_HEIGHT = 27
AXIS_HEIGHT = 26
NODE_WIDTH, NODE_HEIGHT, LEVEL_HEIGHT = 126, 42, 92


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One value with its interval.

    Attributes:
        label: what it is.
        text: the value in words.
        colour: name of a CSS variable.
        x: of the value.
        low: of the interval's lower end; None if unknown.
        high: of its upper end.
        y: of the row's middle.
    """

    label: str
    text: str
    colour: str
    x: float
    low: float | None
    high: float | None
    y: float


@dataclass(frozen=True, slots=True, kw_only=True)
class IntervalPlot:
    """Values with intervals, one a row, on one axis.

    Attributes:
        title: for readers who do not see it.
        width: of the drawing.
        height: of the drawing.
        marks: the rows.
        ticks: position and text of each.
        zero: where bars begin.
        rule: position of a dashed line (chance), and its name; None without.
    """

    title: str
    width: int
    height: int
    marks: tuple[Mark, ...]
    ticks: tuple[tuple[float, str], ...]
    zero: float
    rule: tuple[float, str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One subset in the lattice; `x` and `y` are of its middle."""

    label: str
    text: str
    x: float
    y: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """One modality added to a subset.

    Attributes:
        start: x and y of the smaller subset.
        end: x and y of the larger one.
        colour: name of a CSS variable, of the modality added.
        width: of the line: the more it helps, the thicker.
        text: what it changes, in words.
    """

    start: tuple[float, float]
    end: tuple[float, float]
    colour: str
    width: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lattice:
    """All subsets, from none at the bottom to all at the top."""

    title: str
    width: int
    height: int
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    legend: tuple[str, ...]


def interval_plot(
    title: str,
    rows: Sequence[tuple[str, Estimate]],
    *,
    signed: bool = False,
    rule: tuple[float, str] | None = None,
) -> IntervalPlot:
    """Lay out labelled estimates.

    Args:
        title: what is shown.
        rows: label and estimate of each.
        signed: a difference (the axis spans the data and 0) rather than a share of 0 to 100 %.
        rule: value and name of a dashed line.
    """
    low, high, step = _range([estimate for _, estimate in rows]) if signed else (0.0, 1.0, 0.25)
    left, right = LABEL_WIDTH, WIDTH - VALUE_WIDTH

    def place(value: float) -> float:
        return round(left + (value - low) / (high - low) * (right - left), 1)

    marks = tuple(
        Mark(
            label=label,
            text=f"{100 * (e.value or 0):{'+' if signed else ''}.1f}",
            colour=label if label in ("image", "audio", "video", "point") else "accent",
            x=place(e.value or 0.0),
            low=None if e.low is None else place(max(low, e.low)),
            high=None if e.high is None else place(min(high, e.high)),
            y=ROW_HEIGHT * (i + 0.5),
        )
        for i, (label, e) in enumerate(rows)
    )
    ticks = [low + i * step for i in range(round((high - low) / step) + 1)]
    return IntervalPlot(
        title=title,
        width=WIDTH,
        height=ROW_HEIGHT * len(rows) + AXIS_HEIGHT,
        marks=marks,
        ticks=tuple((place(tick), f"{100 * tick:.0f}") for tick in ticks),
        zero=place(max(low, 0.0)),
        rule=None if rule is None else (place(rule[0]), rule[1]),
    )


def lattice(title: str, values: Mapping[frozenset[str], float], order: Sequence[str]) -> Lattice:
    """Lay out the subsets of two to four modalities with their accuracies.

    Args:
        title: what is shown.
        values: accuracy of each subset, all of them.
        order: the modalities.
    """
    places = _places(order)
    scale = max((abs(values[s | {m}] - values[s]) for s, m in _steps(values, order)), default=0.0)
    edges = tuple(
        Edge(
            start=places[subset],
            end=places[subset | {modality}],
            colour=modality,
            width=round(1 + 6 * max(0.0, values[subset | {modality}] - values[subset]) / scale, 1)
            if scale
            else 1.0,
            text=f"{_name(subset, order)} and {modality}: "
            f"{100 * (values[subset | {modality}] - values[subset]):+.1f} points",
        )
        for subset, modality in _steps(values, order)
    )
    nodes = tuple(
        Node(label=_name(s, order), text=f"{100 * values[s]:.1f} %", x=x, y=y)
        for s, (x, y) in places.items()
    )
    height = LEVEL_HEIGHT * len(order) + NODE_HEIGHT + 8
    width = round(max(x for x, _ in places.values()) + NODE_WIDTH / 2 + 4)
    return Lattice(
        title=title,
        width=max(width, WIDTH),
        height=height,
        nodes=nodes,
        edges=edges,
        legend=tuple(order),
    )


def _range(estimates: Sequence[Estimate]) -> tuple[float, float, float]:
    """Ends and tick distance of an axis that holds all intervals and 0."""
    ends = [v for e in estimates for v in (e.low, e.high, e.value) if v is not None] + [0.0]
    step = next(s for s in (0.05, 0.1, 0.2, 0.5, 1.0) if (max(ends) - min(ends)) / s <= 6)
    low, high = step * floor(min(ends) / step), step * ceil(max(ends) / step)
    return low, high if high > low else low + step, step


def _places(order: Sequence[str]) -> dict[frozenset[str], tuple[float, float]]:
    levels = [[s for s in coalitions(order) if len(s) == k] for k in range(len(order) + 1)]
    width = max(WIDTH, max(map(len, levels)) * (NODE_WIDTH + 12))
    places = {}
    for size, level in enumerate(levels):
        for i, subset in enumerate(level):
            x = width * (i + 0.5) / len(level)
            y = 4 + NODE_HEIGHT / 2 + LEVEL_HEIGHT * (len(order) - size)
            places[subset] = (round(x, 1), y)
    return places


def _steps(
    values: Mapping[frozenset[str], float], order: Sequence[str]
) -> list[tuple[frozenset[str], str]]:
    return [(subset, m) for subset in values for m in order if m not in subset]


def _name(subset: frozenset[str], order: Sequence[str]) -> str:
    return "+".join(m for m in order if m in subset) or "none"
