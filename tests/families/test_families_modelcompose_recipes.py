"""The shipped recipes for ModelCompose's experts: planned in their real shapes, in seconds."""

import math
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from modelcompose_shapes import adapter, projector, write_encoders, write_experts
from real_shapes import write_cached

from omnicompose.assembly import check_loads, composite_config
from omnicompose.plan import make_plan
from omnicompose.recipe import read_compose_recipe

CONFIGS = Path(__file__).parents[2] / "configs"
RECIPES = [path.stem for path in sorted(CONFIGS.glob("modelcompose-*.yaml"))]
LIMIT_S = 10.0
BYTES_OF_BASE = 13.4e9  # Vicuna-7B in bf16


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for recipes with the encoder files that they expect beside them, and a hub cache."""
    from huggingface_hub import constants

    cache, beside = tmp_path_factory.mktemp("hub"), tmp_path_factory.mktemp("recipes")
    write_cached(cache, "lmsys/vicuna-7b-v1.5")
    write_experts(cache)
    write_encoders(cache, beside)
    before, constants.HF_HUB_CACHE = constants.HF_HUB_CACHE, str(cache)
    yield beside
    constants.HF_HUB_CACHE = before


def test_the_shapes_have_the_published_sizes() -> None:
    """Numbers of parameters: specification of ModelCompose, section 3.1."""
    counts = {name: _count(projector(name)) for name in ("vision", "audio", "point")}
    assert _count(adapter("default")) == 319_815_680
    assert counts == {"vision": 20_979_712, "audio": 22_865_920, "point": 18_358_272}


def _count(shapes: dict[str, tuple[int, ...]]) -> int:
    return sum(math.prod(shape) for shape in shapes.values())


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_plans_in_its_real_shapes(beside: Path, name: str) -> None:
    # The same tensors as headers: a pickle cannot be a hole in a file.
    text = (CONFIGS / f"{name}.yaml").read_text().replace(".pt\n", ".safetensors\n")
    path = beside / f"{name}.yaml"
    path.write_text(text)
    recipe = read_compose_recipe(path)
    start = time.process_time()
    plan = make_plan(recipe)
    check_loads(composite_config(plan), plan)
    cost = plan.cost()
    described = plan.to_json()
    assert time.process_time() - start < LIMIT_S
    assert cost.bytes_to_write > BYTES_OF_BASE
    assert cost.bytes_to_read > BYTES_OF_BASE
    assert cost.least_memory_bytes <= cost.peak_memory_bytes <= 2 * 1024**3
    assert set(cost.stream_bytes) == set(recipe.experts)
    exact = recipe.modality == "exact"
    assert all(bool(size) == exact for size in cost.stream_bytes.values())
    assert described["cost"]["bytes_to_write"] == cost.bytes_to_write
