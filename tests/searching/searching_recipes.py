"""Recipes with searching methods, on two small LoRAs."""

from collections.abc import Mapping
from pathlib import Path

import yaml

from omnicompose.merging.registry import check_parameters
from omnicompose.recipe import read_merge_recipe
from omnicompose.searching.ground import Ground, open_ground

QUICK: Mapping[str, Mapping[str, object]] = {
    "adamerging": {"steps": 3, "learning_rate": 0.05, "batch_size": 2},
    "expert_merging": {"steps": 3},
    "expert_merging_plus_plus": {"steps": 2, "budget": 2.0},
    "fw_merging": {"steps": 2},
    "adamms": {"new_tokens": 3},
    "es_merging": {"projections": 16},
    "evo_merging": {"density_evaluations": 4, "weight_evaluations": 4},
    "cma_es": {"evaluations": 4},
    "bayes": {"evaluations": 4, "inner": "ties", "settings": "density"},
}


def write(
    models: Path, method: str, parameters: Mapping[str, object] | None = None, data: bool = True
) -> Path:
    entries = [
        {"source": f"{models}/m0+{models}/lora{i}", "name": f"e{i}"}
        | ({"data": f"{models}/{'ab'[i - 1]}.jsonl"} if data else {})
        for i in (1, 2)
    ]
    recipe = {
        "base": f"{models}/m0",
        "models": entries,
        "method": method,
        "parameters": dict(QUICK[method] if parameters is None else parameters),
    }
    path = models / f"{method}.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def ground_of(models: Path, method: str, folder: Path) -> Ground:
    recipe = read_merge_recipe(write(models, method))
    parameters = check_parameters(method, recipe.parameters)
    return open_ground(recipe, parameters, folder, lambda _line: None)
