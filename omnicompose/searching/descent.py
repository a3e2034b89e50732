"""Adam on a table of coefficients; its state is on disk after every step, a kill loses none."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from omnicompose.errors import TuningError
from omnicompose.searching.bench import Table
from omnicompose.tensors.header import read_header
from omnicompose.tensors.saving import save_tensors

BETAS = (0.9, 0.999)
EPSILON = 1e-8
Slope = Callable[[int, Table], tuple[float, Table]]
"""Step number and coefficients -> the loss there, and its gradient."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Descent:
    """How to descend.

    Attributes:
        steps: of Adam.
        rate: its step size at a step.
        low: least coefficient; None: no limit.
        high: greatest coefficient.
        decay: of the coefficients per step, times the step size (AdamW).
        clip: greatest norm of a gradient; None: no limit.
    """

    steps: int
    rate: Callable[[int], float]
    low: float | None = None
    high: float | None = None
    decay: float = 0.0
    clip: float | None = None


def descend(
    start: Table, slope: Slope, how: Descent, path: Path, asked: Mapping[str, object]
) -> Table:
    """Coefficients after the last step; goes on from the state in `path`.

    Args:
        start: coefficients.
        slope: the loss and its gradient.
        how: steps and step sizes.
        path: gets the state after every step.
        asked: what this search is of; a state of another one is refused.

    Raises:
        TuningError: the loss or its gradient is no number, or the state is of another search.
    """
    note = json.dumps(dict(asked), sort_keys=True)
    done, table, mean, square = _state(path, start, note)
    for step in range(done, how.steps):
        loss, gradient = slope(step, table)
        if not math.isfinite(loss) or not all(bool(one.isfinite().all()) for one in gradient):
            raise TuningError(
                f"step {step + 1}: found a loss of {loss} and its gradient, expected finite "
                f"numbers. The steps before it are in {path}; take a smaller learning_rate under "
                "another --out."
            )
        _clip(gradient, how.clip)
        for number, given in enumerate(gradient):
            mean[number].lerp_(given, 1 - BETAS[0])
            square[number].lerp_(given.square(), 1 - BETAS[1])
            size = (square[number] / (1 - BETAS[1] ** (step + 1))).sqrt_().add_(EPSILON)
            rate = how.rate(step)
            table[number].mul_(1 - rate * how.decay)
            table[number].addcdiv_(mean[number] / (1 - BETAS[0] ** (step + 1)), size, value=-rate)
            table[number].clamp_(_or(how.low, -math.inf), _or(how.high, math.inf))
        _keep(path, step + 1, (table, mean, square), note)
    return table


def _or(given: float | None, otherwise: float) -> float:
    return otherwise if given is None else given


def _clip(gradient: Table, most: float | None) -> None:
    norm = float(torch.stack([one.square().sum() for one in gradient]).sum().sqrt())
    if most is not None and norm > most:
        for one in gradient:
            one.mul_(most / norm)


def _state(path: Path, start: Table, note: str) -> tuple[int, Table, Table, Table]:
    if not path.is_file():
        fresh = [one.clone() for one in start]
        return 0, fresh, [torch.zeros_like(o) for o in start], [torch.zeros_like(o) for o in start]
    header = read_header(path).metadata
    if header["asked"] != note:
        raise TuningError(
            f"{path}: found the state of another search (other models, data or settings). Remove "
            "it, or merge to another --out."
        )
    found = load_file(path)
    tables = [
        [found[f"{kind}.{i}"] for i in range(len(start))] for kind in ("table", "mean", "square")
    ]
    return int(header["step"]), tables[0], tables[1], tables[2]


def _keep(path: Path, step: int, tables: tuple[Table, Table, Table], note: str) -> None:
    tensors = {
        f"{kind}.{i}": one
        for kind, table in zip(("table", "mean", "square"), tables, strict=True)
        for i, one in enumerate(table)
    }
    save_tensors(tensors, path, {"step": str(step), "asked": note})
