"""Measure how much the experts of a recipe contradict one another, layer by layer.

d_i = W_i - W_base   per expert i, over all merged tensors of a block:
norm |d_i| / |W_base|,  cosine <d_i, d_j> / (|d_i| |d_j|),  conflict: share of numbers with
d_i d_j < 0 among those with d_i d_j != 0
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING

from omnicompose.errors import PlanError
from omnicompose.evaluation.interference import FILE_NAME, Interference, Layer
from omnicompose.evaluation.journal import write_atomically
from omnicompose.merging.job import Merge, TensorRef
from omnicompose.plan import make_plan
from omnicompose.recipe import read_compose_recipe

if TYPE_CHECKING:
    import torch

OUTSIDE = "outside"


@dataclass
class _Sums:
    """What is added up over the tensors of one block."""

    parameters: int = 0
    base: float = 0.0
    squares: dict[str, float] = field(default_factory=dict)
    products: dict[str, float] = field(default_factory=dict)
    opposed: dict[str, int] = field(default_factory=dict)
    both: dict[str, int] = field(default_factory=dict)


def write_interference(recipe_path: Path, results_dir: Path) -> Interference:
    """Measure the experts of a recipe, and put the numbers beside an evaluation's results.

    Args:
        recipe_path: the recipe of the composite that was evaluated.
        results_dir: a folder of `evaluate`.

    Raises:
        RecipeError: the recipe is malformed.
        SourceError: an expert cannot be opened.
        PlanError: the experts do not fit together, or nothing of theirs is merged with a base.
    """
    found = measure_interference(recipe_path)
    write_atomically(results_dir / FILE_NAME, found.model_dump_json(indent=1).encode() + b"\n")
    return found


def measure_interference(recipe_path: Path) -> Interference:
    """See `write_interference`."""
    recipe = read_compose_recipe(recipe_path)
    blocks: dict[str, _Sums] = {}
    for entry in make_plan(recipe).plan.entries:
        if isinstance(entry.job, Merge) and entry.job.base is not None:
            _add(blocks, entry.job)
    if not blocks:
        raise PlanError(
            f"{recipe_path}: no tensor is merged with a base, so nothing can interfere; expected a "
            "recipe with two or more experts."
        )
    names = sorted(blocks, key=lambda name: (name == OUTSIDE, int(name) if name.isdigit() else 0))
    return Interference(
        text=recipe.text.method,
        modality=recipe.modality,
        layers=tuple(_layer(name, blocks[name]) for name in names),
    )


def _add(blocks: dict[str, _Sums], job: Merge) -> None:
    operands = [job.base, *job.experts]
    if not all(isinstance(operand, TensorRef) for operand in operands):
        return
    base, *experts = (_read(operand) for operand in operands if isinstance(operand, TensorRef))
    deltas = {name: expert - base for name, expert in zip(job.expert_names, experts, strict=True)}
    name = OUTSIDE if job.layer is None else str(job.layer)
    sums = blocks.setdefault(name, _Sums())
    sums.parameters += base.numel()
    sums.base += float(base.square().sum())
    for expert_name, delta in deltas.items():
        _increase(sums.squares, expert_name, float(delta.square().sum()))
    for first, second in combinations(sorted(deltas), 2):
        product = deltas[first] * deltas[second]
        pair = f"{first}+{second}"
        _increase(sums.products, pair, float(product.sum()))
        sums.opposed[pair] = sums.opposed.get(pair, 0) + int((product < 0).sum())
        sums.both[pair] = sums.both.get(pair, 0) + int((product != 0).sum())


def _read(ref: TensorRef) -> "torch.Tensor":
    """The tensor in fp64."""
    import torch

    info = ref.info
    out = torch.empty(info.num_elements, dtype=info.dtype)
    ref.source.read_into(ref.name, ref.start, out)
    return out.double()


def _layer(name: str, sums: _Sums) -> Layer:
    lengths = {expert: sqrt(square) for expert, square in sums.squares.items()}
    return Layer(
        name=name,
        parameters=sums.parameters,
        norms={expert: _ratio(length, sqrt(sums.base)) for expert, length in lengths.items()},
        cosine={
            pair: _ratio(product, _product(lengths, pair))
            for pair, product in sums.products.items()
        },
        conflict={pair: _ratio(sums.opposed[pair], both) for pair, both in sums.both.items()},
    )


def _product(lengths: Mapping[str, float], pair: str) -> float:
    first, second = pair.split("+")
    return lengths[first] * lengths[second]


def _ratio(value: float, of: float) -> float:
    return round(value / of, 6) if of else 0.0


def _increase(sums: dict[str, float], key: str, value: float) -> None:
    sums[key] = sums.get(key, 0.0) + value
