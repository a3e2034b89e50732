"""The loss curve of a training, as a table and as a picture."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path

CSV_FILE, PNG_FILE = "loss.csv", "loss.png"
SMOOTHING = 0.9
"""Share of the smoothed curve that stays from one point to the next."""
Curve = Sequence[tuple[int, float, float]]
"""Step, loss in nats and norm of the gradient of every point."""


def write_curve(folder: Path, curves: Mapping[str, Curve]) -> None:
    """Write the curves of all stages, one behind the other.

    Args:
        folder: gets `loss.csv` and `loss.png`.
        curves: by stage.
    """
    with (folder / CSV_FILE).open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(("stage", "step", "loss", "grad_norm"))
        table.writerows((stage, *point) for stage, curve in curves.items() for point in curve)
    _draw(folder / PNG_FILE, curves)


def _draw(path: Path, curves: Mapping[str, Curve]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="step", ylabel="loss (nats per token)")
    start = 0
    for stage, curve in curves.items():
        steps = [start + step for step, _, _ in curve]
        losses = [loss for _, loss, _ in curve]
        (line,) = axes.plot(steps, losses, alpha=0.3)
        axes.plot(steps, list(_smooth(losses)), color=line.get_color(), label=stage)
        start = steps[-1] if steps else start
    axes.set_ylim(bottom=0)
    axes.legend()
    # Without the version of matplotlib inside, so that equal curves are equal files.
    FigureCanvasAgg(figure)
    figure.savefig(path, format="png", metadata={"Software": None})


def _smooth(losses: Sequence[float]) -> Iterator[float]:
    return accumulate(losses, lambda mean, loss: SMOOTHING * mean + (1 - SMOOTHING) * loss)
