"""Optimal-transport fusion: units of a feed-forward layer are mapped softly onto another model's.

    cost_ab   distance of unit a of the second model and unit b of the first, over its largest;
              a unit is its row of gate, its row of up and its column of down, each of unit length
    P         transport of uniform masses: exact (emd) or entropic (sinkhorn, regularisation r)
    gate, up <- n P^T gate, n P^T up          down <- down n P

with n units, so that rows and columns of n P add up to 1 and a permutation is recovered exactly.

The residual stream and the heads are left as they are: the "identity" policy for residuals, the one
of graldij/transformer-fusion's policies under which no other tensor changes. Soft maps of units
between non-linear functions do not keep the function; permutations (emd on equal numbers) do.

Paper: "Transformer Fusion with Optimal Transport", arXiv 2310.05719, as specs/methods.md A.23
records it (sinkhorn regularisation 0.06 for weights). Transport by the library POT.
"""

from collections.abc import Callable

import torch

from omnicompose.aligning.tensors import Shape, Tensors
from omnicompose.errors import PlanError

PARTS = ("gate_proj", "up_proj", "down_proj")


def transport(
    first: Tensors,
    second: Tensors,
    shape: Shape,
    regularisation: float = 0.0,
    say: Callable[[str], None] = lambda _line: None,
) -> Tensors:
    """The second model with its feed-forward units carried onto the first one's.

    Args:
        first: stays.
        second: of the same shapes.
        shape: of both.
        regularisation: of the entropic solver; 0 for the exact one.
        say: takes one line of progress per block.

    Raises:
        PlanError: the library is not installed.
    """
    moved = dict(second)
    for layer in range(shape.layers):
        names = [f"model.layers.{layer}.mlp.{part}.weight" for part in PARTS]
        plan = mapping(units(first, names), units(second, names), regularisation)
        for name in names[:2]:
            moved[name] = (plan.T @ second[name].double()).float()
        moved[names[2]] = (second[names[2]].double() @ plan).float()
        say(f"block {layer + 1} of {shape.layers}")
    return moved


def units(tensors: Tensors, names: list[str]) -> torch.Tensor:
    """`[n, entries]` fp64: what a feed-forward unit is."""
    gate, up, down = (tensors[name].double() for name in names)
    parts = [gate, up, down.T]
    return torch.cat([torch.nn.functional.normalize(part, dim=1) for part in parts], dim=1)


def mapping(first: torch.Tensor, second: torch.Tensor, regularisation: float) -> torch.Tensor:
    """`[second, first]`: how much of each of the second's units goes to each of the first's.

    Raises:
        PlanError: the library is not installed.
    """
    try:
        import ot
    except ImportError as error:
        raise PlanError(
            "optimal transport needs the package pot, which is not installed. Install "
            "omnicompose[align], or take --how permutation."
        ) from error
    count = len(first)
    distances = torch.cdist(second, first)
    cost = (distances / distances.max().clamp(min=1e-300)).numpy()
    mass = torch.full((count,), 1.0 / count, dtype=torch.float64).numpy()
    if regularisation > 0.0:
        plan = ot.sinkhorn(mass, mass, cost, regularisation)
    else:
        plan = ot.emd(mass, mass, cost)
    return torch.from_numpy(plan) * count
