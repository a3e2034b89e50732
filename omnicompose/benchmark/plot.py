"""Two fronts in one picture: score against what is kept of the base, and against cost."""

import io
from collections.abc import Callable

from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from omnicompose.benchmark.rows import METHOD
from omnicompose.benchmark.summary import Standing, Summary, front

INK, QUIET, ACCENT = "#333333", "#9aa5b1", "#c2410c"
SIZE_INCHES = (11, 5)
Place = Callable[[Standing], float]


def pareto_svg(summary: Summary) -> str:
    """Rows as points, those on a front named, references as dashed lines."""
    figure = Figure(figsize=SIZE_INCHES, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    _panel(left, summary, _skill, "the base's skill (%)")
    _panel(right, summary, lambda one: -one.row.cpu_seconds, "CPU seconds of the merge")
    right.set_xlabel("CPU seconds of the merge (cheaper to the right)")
    right.xaxis.set_major_formatter(lambda value, _: f"{-value:g}")
    left.set_ylabel("score: mean over the tasks (%)")
    figure.suptitle(summary.suite)
    stream = io.StringIO()
    # No date, and ids that do not change: the same results give the same file.
    figure.canvas = FigureCanvasSVG(figure)
    from matplotlib import rc_context

    with rc_context({"svg.hashsalt": summary.suite, "svg.fonttype": "none"}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()


def _panel(axes: Axes, summary: Summary, place: Place, label: str) -> None:
    rows = [one for one in summary.standings if one.row.kind == METHOD]
    points = [(place(one), _score(one)) for one in rows]
    best = sorted(front(points), key=lambda i: points[i])
    axes.scatter([x for x, _ in points], [y for _, y in points], s=18, color=QUIET)
    along, up = [points[i][0] for i in best], [points[i][1] for i in best]
    axes.plot(along, up, color=ACCENT, marker="o", ms=5)
    for i in best:
        axes.annotate(
            rows[i].row.label, points[i], (4, 4), textcoords="offset points", fontsize=7, color=INK
        )
    for one in summary.standings:
        if one.row.label in ("weight average", "joint training"):
            axes.axhline(_score(one), color=INK, linewidth=0.8, linestyle="--")
            axes.text(axes.get_xlim()[0], _score(one), one.row.label, fontsize=7, va="bottom")
    axes.set_xlabel(label)
    axes.spines[["top", "right"]].set_visible(False)


def _score(one: Standing) -> float:
    return 100 * (one.score.value or 0.0)


def _skill(one: Standing) -> float:
    return 100 * (one.skill.value or 0.0) if one.skill is not None else 0.0
