"""Charts by matplotlib, on one canvas that is kept: to make a figure takes longer than to draw."""

from functools import cache

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas
from PIL import Image

from omnicompose.zoo.capabilities.world import COLOURS, SIDE, Chart

Rgb = tuple[float, float, float]
DPI = 128
HIGHEST = 10


def draw_chart(chart: Chart) -> Image.Image:
    """The chart at twice its size, RGB."""
    canvas, axes = _canvas()
    axes.clear()
    axes.set_frame_on(False)  # a pie takes the frame away for good
    colours = [_share(COLOURS[name]) for name in chart.colours]
    if chart.form == "pie":
        axes.pie(chart.values, colors=colours, startangle=90, radius=1.15)
    else:
        _draw_bars(axes, chart, colours)
    canvas.draw()  # type: ignore[no-untyped-call]  # matplotlib leaves it untyped
    seen = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]  # so is this
    return Image.fromarray(seen[..., :3].copy())


def _share(colour: tuple[int, int, int]) -> Rgb:
    red, green, blue = colour
    return red / 255, green / 255, blue / 255


def _draw_bars(axes: Axes, chart: Chart, colours: list[Rgb]) -> None:
    places = range(len(chart.values))
    axes.set_aspect("auto")
    if chart.form == "bars":
        axes.bar(places, chart.values, color=colours, width=0.75)
        axes.set_ylim(0, HIGHEST)
    else:
        axes.barh(places, chart.values, color=colours, height=0.75)
        axes.set_xlim(0, HIGHEST)
    axes.set_xticks([])
    axes.set_yticks([])
    if chart.grid:
        scale = axes.set_yticks if chart.form == "bars" else axes.set_xticks
        scale(range(0, HIGHEST + 1, 2))
        axes.tick_params(length=0, labelsize=0, labelleft=False, labelbottom=False)
        axes.grid(axis="y" if chart.form == "bars" else "x", linewidth=0.5, color="0.7")
        axes.set_axisbelow(True)


@cache
def _canvas() -> tuple[FigureCanvasAgg, Axes]:
    inches = 2 * SIDE / DPI
    figure = Canvas(figsize=(inches, inches), dpi=DPI)
    canvas = FigureCanvasAgg(figure)
    return canvas, figure.add_axes((0.06, 0.06, 0.88, 0.88))
