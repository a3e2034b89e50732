"""A recipe with a searching method becomes one with found coefficients."""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from omnicompose.errors import RecipeError
from omnicompose.merging.registry import check_parameters
from omnicompose.merging.searched import SEARCHED
from omnicompose.merging.statistics_file import StatisticsFacts, write_statistics
from omnicompose.plan.merge_fit import check_method
from omnicompose.recipe import MergeRecipe
from omnicompose.recipe_values import Source
from omnicompose.recipe_writing import write_recipe
from omnicompose.searching import (
    adamerging,
    adamms,
    black_box,
    es_merging,
    evo_merging,
    expert_merging,
    frank_wolfe,
)
from omnicompose.searching.ground import Found, Ground, Say, open_ground
from omnicompose.statistics.provide import file_name
from omnicompose.tensors.source import TensorInfo

RECIPE_NAME = "found.yaml"
TABLES: Mapping[str, Callable[[Ground], Found]] = {
    "adamerging": adamerging.search,
    "expert_merging": expert_merging.search,
    "expert_merging_plus_plus": expert_merging.search_plus_plus,
    "fw_merging": frank_wolfe.search,
    "adamms": adamms.search,
    "es_merging": es_merging.search,
}
RECIPES: Mapping[str, Callable[[Ground], MergeRecipe]] = {
    "cma_es": black_box.search,
    "bayes": black_box.search,
    "evo_merging": evo_merging.search,
}


def searched(recipe: MergeRecipe, folder: Path, say: Say) -> MergeRecipe:
    """The recipe that a search comes to; the recipe itself if its method searches nothing.

    Args:
        recipe: of a merge.
        folder: gets logs, states and `found.yaml`; a killed search goes on from what lies there.
        say: takes one line of progress.

    Raises:
        RecipeError: a parameter is wrong, or the recipe asks for more than coefficients.
        PlanError: the method takes another number of models, or a base that is not named.
        CalibrationError: data or labels are lacking.
        TuningError: the search fails.
    """
    if recipe.method not in SEARCHED:
        return recipe
    parameters = check_parameters(recipe.method, recipe.parameters, recipe.profile)
    check_method(SEARCHED[recipe.method], len(recipe.models), has_base=recipe.base is not None)
    if recipe.method in TABLES:
        _check_plain(recipe)
    folder.mkdir(parents=True, exist_ok=True)
    ground = open_ground(recipe, parameters, folder, say)
    if recipe.method in RECIPES:
        found = RECIPES[recipe.method](ground)
    else:
        found = _recipe_of(TABLES[recipe.method](ground), ground)
    write_recipe(found, folder / RECIPE_NAME)
    return found


def _check_plain(recipe: MergeRecipe) -> None:
    """Refuse what the searched model would not show, but the merged one would.

    Raises:
        RecipeError: some tensors would be treated otherwise than by their coefficients.
    """
    policies = {role: getattr(recipe.roles, role) for role in type(recipe.roles).model_fields}
    problems = [
        *(f"roles.{role}: mean_delta" for role, found in policies.items() if found == "mean_delta"),
        *(f"overrides: {one.match}" for one in recipe.overrides if one.policy != "base"),
        *(["then"] if recipe.then else []),
        *([f"vocabulary: {recipe.vocabulary}"] if recipe.vocabulary != "base" else []),
    ]
    if problems:
        raise RecipeError(
            f"method {recipe.method!r} searches coefficients of deltas alone; found "
            f"{', '.join(problems)}, which would change the result unseen. Search without, and "
            f"add it to the {RECIPE_NAME} that comes out; `base` policies are fine."
        )


def _recipe_of(found: Found, ground: Ground) -> MergeRecipe:
    if any(one.shape[1] > 1 for one in found.table):
        return _with_files(found, ground)
    weights = [
        {
            **{
                one.name: round(float(row[expert, 0]), 8)
                for one, row in zip(found.bench.moved, found.table, strict=True)
            },
            # What the search does not move stays at the base.
            "*": 0.0,
        }
        for expert in range(len(found.bench.experts))
    ]
    changes: dict[str, object] = {"method": "task_arithmetic", "parameters": {}}
    if found.density is not None:
        density = dict(found.density)
        changes = {"method": "breadcrumbs", "parameters": {"density": density, "gamma": 0.0}}
    models = tuple(
        model.model_copy(update={"weight": weight, "data": None})
        for model, weight in zip(ground.recipe.models, weights, strict=True)
    )
    return ground.recipe.model_copy(update={**changes, "profile": None, "models": models})


def _with_files(found: Found, ground: Ground) -> MergeRecipe:
    """Coefficients per chunk have no place in a recipe: one file per model holds them."""
    models = []
    for number, model in enumerate(ground.recipe.models):
        path = ground.folder / f"{file_name(model.label)}.coefficients.safetensors"
        rows = {
            one.name: row[number].clone()
            for one, row in zip(found.bench.moved, found.table, strict=True)
        }
        _write(path, model.label, rows)
        source = Source(text=str(path.resolve()), kind="path", location=str(path.resolve()))
        models.append(model.model_copy(update={"statistics": source, "weight": 0.0, "data": None}))
    return ground.recipe.model_copy(
        update={
            "method": "coefficients",
            "parameters": {},
            "profile": None,
            "models": tuple(models),
        }
    )


def _write(path: Path, model: str, rows: Mapping[str, torch.Tensor]) -> None:
    facts = StatisticsFacts(
        kind="coefficients", model=model, num_examples=0, num_tokens=0, aliases={}, data=()
    )
    infos = {
        name: TensorInfo(name=name, dtype=torch.float32, shape=tuple(row.shape))
        for name, row in rows.items()
    }
    write_statistics(path, facts, infos, lambda name: rows[name])
