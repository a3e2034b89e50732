"""What a recipe does, as numbers per layer: the plan as a tree, coefficients, interference."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from omnicompose.evaluation.interference import Interference
from omnicompose.interference import measure_interference
from omnicompose.merging.job import Merge
from omnicompose.plan import CompositePlan, make_plan
from omnicompose.plan.plan import Entry
from omnicompose.recipe import read_compose_recipe

OUTSIDE = "outside"
LANGUAGE_MODEL = "model.language_model."


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """One part of the composite and what becomes of it.

    Attributes:
        name: `image_encoder`, `language_model`, a block, a kind of tensor.
        tensors: how many.
        num_bytes: of them, as written.
        fate: what becomes of them, in the plan's words; several if they differ.
        branches: parts of the part; equal blocks are one branch.
    """

    name: str
    tensors: int
    num_bytes: int
    fate: tuple[str, ...]
    branches: tuple["Branch", ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Everything that is shown.

    Attributes:
        tree: the composite.
        coefficients: layer to expert to the mean of its coefficients there.
        interference: how much the experts contradict one another; None if it was not measured.
    """

    tree: Branch
    coefficients: Mapping[str, Mapping[str, float]]
    interference: Interference | None

    def to_json(self) -> dict[str, object]:
        """All of it as plain data."""
        measured = None if self.interference is None else self.interference.model_dump()
        return {
            "tree": asdict(self.tree),
            "coefficients": {layer: dict(row) for layer, row in self.coefficients.items()},
            "interference": measured,
        }


def look_at(recipe_path: Path, *, measure: bool = True) -> Look:
    """Plan a recipe and look at it; with `measure` the experts' backbones are read.

    Raises:
        RecipeError: the recipe is malformed.
        SourceError: an expert cannot be opened.
        PlanError: the experts do not fit together, or nothing is merged with a base.
    """
    plan = make_plan(read_compose_recipe(recipe_path))
    return Look(
        tree=plan_tree(plan),
        coefficients=_coefficients(plan.plan.entries),
        interference=measure_interference(recipe_path) if measure else None,
    )


def plan_tree(plan: CompositePlan) -> Branch:
    """The composite of a plan, part by part."""
    groups: dict[str, list[Entry]] = {}
    for entry in plan.plan.entries:
        name = entry.output.name.removeprefix("model.")
        groups.setdefault(name.split(".")[0], []).append(entry)
    branches = [
        _branch(name, entries, _blocks(entries) if name == "language_model" else ())
        for name, entries in groups.items()
    ]
    return _branch("composite", plan.plan.entries, branches)


def _blocks(entries: Iterable[Entry]) -> list[Branch]:
    """One branch per run of blocks that are treated alike."""
    layers: dict[str, list[Entry]] = {}
    for entry in entries:
        parts = entry.output.name.removeprefix(LANGUAGE_MODEL).split(".")
        layers.setdefault(f"block {parts[1]}" if parts[0] == "layers" else parts[0], []).append(
            entry
        )
    runs: list[tuple[list[str], list[Entry]]] = []
    for name, found in layers.items():
        if runs and name.startswith("block") and _alike(runs[-1][1], found):
            runs[-1][0].append(name)
            continue
        runs.append(([name], found))
    return [_run(names, first, len(names)) for names, first in runs]


def _run(names: list[str], first: list[Entry], count: int) -> Branch:
    name = names[0] if count == 1 else f"{names[0]} to {names[-1].split()[-1]}, each"
    return _branch(name, first, ())


def _alike(first: Iterable[Entry], second: Iterable[Entry]) -> bool:
    def kinds(entries: Iterable[Entry]) -> list[tuple[str, object, str]]:
        return [
            (entry.output.name.split(".")[-2], entry.output.shape, entry.reason)
            for entry in entries
        ]

    return kinds(first) == kinds(second)


def _branch(name: str, entries: Iterable[Entry], branches: Iterable[Branch]) -> Branch:
    found = list(entries)
    return Branch(
        name=name,
        tensors=len(found),
        num_bytes=sum(entry.output.num_bytes for entry in found),
        fate=tuple(dict.fromkeys(entry.reason for entry in found)),
        branches=tuple(branches),
    )


def _coefficients(entries: Iterable[Entry]) -> dict[str, dict[str, float]]:
    """Per layer the mean coefficient of each expert over the tensors that are merged there."""
    found: dict[str, dict[str, list[float]]] = {}
    for entry in entries:
        if isinstance(entry.job, Merge):
            layer = OUTSIDE if entry.job.layer is None else str(entry.job.layer)
            for name, weight in zip(entry.job.expert_names, entry.job.weights, strict=True):
                found.setdefault(layer, {}).setdefault(name, []).append(weight)
    ordered = sorted(found, key=lambda name: (name == OUTSIDE, int(name) if name.isdigit() else 0))
    return {
        layer: {name: sum(all_) / len(all_) for name, all_ in found[layer].items()}
        for layer in ordered
    }
