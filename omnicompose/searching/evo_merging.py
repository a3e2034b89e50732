"""Evo-Merging: a black box is asked twice, for densities, then for signed weights.

    1   d in (0, 1]^N from 1:        W_0 + mean of the top d_i of D_i   value + penalty mean|d|
    2   b in [-1.5, 1.5]^N from 1/N: W_0 + sum b_i (top d_i of D_i)     value + penalty mean|b|

Both by CMA-ES with a small first step, which is all that a served model with a loss admits; in
generations of 20, or as CMA-ES takes them where fewer than five of those are paid for.

Paper: arXiv 2509.12951, Chansl-Lucky/Black-Box-Merging as specs/methods.md C.1 records it (300
labelled prompts). Where we differ: it merges LoRA factors A and B apart and trims A alone, whose
effect is b^2 and depends on the factors' gauge; here deltas are trimmed and added.
"""

from contextlib import ExitStack
from dataclasses import replace

from omnicompose.recipe import MergeRecipe
from omnicompose.searching.black_box import Judging
from omnicompose.searching.ground import Ground
from omnicompose.searching.strategies import Cma, Space, run, uniform
from omnicompose.searching.trail import Point, Trail

INNER = "breadcrumbs"
"""Keeps the largest entries of a delta and adds the weighted rest up; no outliers are dropped."""
WEIGHTS = (-1.5, 1.5)
POPULATION, FEW_GENERATIONS = 20, 5
LEAST = 0.01
"""Density; of nothing nothing can be learned."""


def search(ground: Ground) -> MergeRecipe:
    """The recipe of the best densities and weights."""
    count = len(ground.recipe.models)
    with ExitStack() as opened:
        judge = Judging(ground, opened)

        def stage(name: str, space: Space, budget: int, fixed: Point | None) -> Point:
            def fitness(point: Point) -> float:
                pair = (point, uniform(count)) if fixed is None else (fixed, point)
                value = judge.value(recipe_of(ground.recipe, *pair), _plain(ground.recipe, *pair))
                ground.say(f"{name} {len(trail.tried) + 1}: {value:.4f}")
                size = sum(map(abs, point)) / len(point)
                return value + ground.number("penalty") * size

            trail = Trail(ground.folder / f"evo_merging-{name}.jsonl", ground.asked(stage=name))
            population = POPULATION if budget >= FEW_GENERATIONS * POPULATION else None
            strategy = Cma(replace(space, population=population))
            return run(strategy, fitness, trail, budget, space.start).point

        spread, seed = ground.number("spread"), ground.recipe.seed
        ones = (1.0,) * count
        wanted = Space(start=ones, low=(LEAST,) * count, high=ones, spread=spread, seed=seed)
        densities = stage("density", wanted, ground.count("density_evaluations"), None)
        low, high = ((bound,) * count for bound in WEIGHTS)
        space = replace(wanted, start=uniform(count), low=low, high=high)
        weights = stage("weight", space, ground.count("weight_evaluations"), densities)
    return recipe_of(ground.recipe, densities, weights)


def recipe_of(asked: MergeRecipe, densities: Point, weights: Point) -> MergeRecipe:
    """A candidate as a recipe."""
    names = [model.label for model in asked.models]
    models = tuple(
        model.model_copy(update={"weight": weight, "data": None})
        for model, weight in zip(asked.models, weights, strict=True)
    )
    density = dict(zip(names, densities, strict=True))
    return asked.model_copy(
        update={
            "method": INNER,
            "parameters": {"density": density, "gamma": 0.0},
            "profile": None,
            "models": models,
        }
    )


def _plain(asked: MergeRecipe, densities: Point, weights: Point) -> dict[str, object]:
    names = [model.label for model in asked.models]
    return {
        "method": INNER,
        "weights": dict(zip(names, weights, strict=True)),
        "densities": dict(zip(names, densities, strict=True)),
    }
