"""Every shipped recipe is read, and found from any directory."""

from pathlib import Path

import pytest

from omnicompose import shelf
from omnicompose.errors import RecipeError
from omnicompose.merging.registry import check_parameters
from omnicompose.recipe import ComposeRecipe, read_recipe
from omnicompose.shelf import config_path

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_is_a_recipe(path: Path) -> None:
    recipe = read_recipe(path)
    main = recipe.text if isinstance(recipe, ComposeRecipe) else recipe
    for stage in (main, *recipe.overrides):
        check_parameters(stage.method or main.method, stage.parameters, stage.profile)
    verb = "compose" if isinstance(recipe, ComposeRecipe) else "merge"
    assert f"# omnicompose {verb} configs/{path.name} --out out/{path.stem}\n" in path.read_text()


def test_configs_are_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert config_path("naive-standard.yaml").is_file()


def test_the_shelf_beside_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "a.yaml").touch()
    monkeypatch.setattr(shelf, "SHELVES", (tmp_path / "gone", tmp_path / "configs"))
    assert config_path("a.yaml") == tmp_path / "configs" / "a.yaml"


def test_a_missing_config() -> None:
    with pytest.raises(
        RecipeError, match=r"none\.yaml: no such shipped configuration in .* Install"
    ):
        config_path("none.yaml")
