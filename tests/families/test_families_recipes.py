"""The shipped recipes for published models: planned in their real shapes, in seconds."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from real_shapes import MODELS, write_cached

from omnicompose.assembly import check_loads, composite_config
from omnicompose.experts.lineage import Lineage
from omnicompose.plan import make_plan
from omnicompose.recipe import read_compose_recipe

CONFIGS = Path(__file__).parents[2] / "configs"
RECIPES = [
    "vicuna-image-video",
    "vicuna-next-image-video",
    "qwen2.5-image-video-audio",
    "qwen2.5-vl-audio",
]
LIMIT_S = 10.0


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    from huggingface_hub import constants

    folder = tmp_path_factory.mktemp("hub")
    for name in MODELS:
        write_cached(folder, name)
    before, constants.HF_HUB_CACHE = constants.HF_HUB_CACHE, str(folder)
    yield folder
    constants.HF_HUB_CACHE = before


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_plans_in_its_real_shapes(
    cache: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    # Holes read as zeros, so every expert would seem to be the base; lineage has its own tests.
    monkeypatch.setattr("omnicompose.plan.checks.delta_cosine", lambda *_: 0.0)
    moved = Lineage(num_tensors=1, num_identical=0, relative_delta=0.1, cosine=0.99)
    monkeypatch.setattr("omnicompose.plan.checks.compare_weights", lambda *_, **__: moved)
    recipe = read_compose_recipe(CONFIGS / f"{name}.yaml")
    start = time.process_time()
    plan = make_plan(recipe)
    check_loads(composite_config(plan), plan)
    cost = plan.cost()
    described = plan.to_json()
    seconds = time.process_time() - start
    assert seconds < LIMIT_S
    assert cost.bytes_to_write > 14e9
    assert cost.bytes_to_read > cost.bytes_to_write
    assert cost.least_memory_bytes <= cost.peak_memory_bytes <= 2 * 1024**3
    exact = recipe.modality == "exact"
    assert all(bool(size) == exact for size in cost.stream_bytes.values())
    assert set(cost.stream_bytes) == set(recipe.experts)
    assert described["cost"]["bytes_to_write"] == cost.bytes_to_write


def test_every_recipe_of_published_models_names_models_that_are_tested() -> None:
    for name in RECIPES:
        content = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
        sources = {content["base"], *(one["source"] for one in content["experts"].values())}
        assert sources <= set(MODELS)
