"""Looking at a recipe: the tree holds every tensor, the maps every layer, JSON all of it."""

import json
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from omnicompose.cli import app
from omnicompose.commands.looking import heat_map, look_view
from omnicompose.looking import Branch, Look, look_at
from omnicompose.plan import make_plan
from omnicompose.recipe import read_compose_recipe

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("looking") / "recipe.yaml"
    path.write_text(
        "base: zoo:base\n"
        "experts:\n"
        "  image: {source: zoo:image-standard, weight: [0.2, 0.8]}\n"
        "  audio: {source: zoo:audio-standard, weight: 0.5}\n"
        "text: {method: task_arithmetic}\n"
        "overrides: [{match: '*.layers.0.*', method: ties}]\n"
    )
    return path


@pytest.fixture(scope="module")
def found(recipe: Path) -> Look:
    return look_at(recipe)


def printed(view: object) -> str:
    console = Console(width=160, force_terminal=True, color_system="truecolor", record=True)
    with console.capture() as capture:
        console.print(view)
    return capture.get()


def test_the_tree_holds_every_tensor_once(recipe: Path, found: Look) -> None:
    plan = make_plan(read_compose_recipe(recipe))
    assert found.tree.tensors == len(plan.plan.entries)
    assert found.tree.num_bytes == plan.plan.bytes_to_write()
    assert sum(one.tensors for one in found.tree.branches) == found.tree.tensors
    names = [one.name for one in found.tree.branches]
    assert {"language_model", "image_encoder", "audio_connector"} <= set(names)


def test_equal_blocks_are_one_branch_and_others_are_not(found: Look) -> None:
    (language,) = [one for one in found.tree.branches if one.name == "language_model"]
    names = [one.name for one in language.branches]
    assert "block 0" in names
    assert "block 1 to 3, each" in names


def test_coefficients_follow_the_depth(found: Look) -> None:
    assert list(found.coefficients)[:4] == ["0", "1", "2", "3"]
    assert {row["audio"] for row in found.coefficients.values()} >= {0.5}
    image = [found.coefficients[str(layer)]["image"] for layer in range(4)]
    assert image == sorted(image)
    assert image[0] < image[-1]


def test_the_view_shows_tree_and_maps(found: Look) -> None:
    text = printed(look_view(found))
    for words in (
        "composite",
        "image_encoder",
        "coefficients over depth",
        "conflict",
        "audio+image",
    ):
        assert words in text
    assert "\x1b[" in text, "cells are coloured"


def test_a_map_colours_its_ends_and_leaves_gaps_empty() -> None:
    text = printed(heat_map("t", ["0", "1", "2"], {"a": [0.0, None, 1.0]}, (0.0, 1.0)))
    assert "48;2;38;70;83" in text
    assert "48;2;231;111;81" in text
    assert text.count("0.00") == text.count("1.00") == 1


def test_the_command_gives_all_of_it_as_json(recipe: Path) -> None:
    done = CliRunner().invoke(app, ["look", str(recipe), "--no-measure", "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["interference"] is None
    assert told["tree"]["branches"]
    assert set(told["coefficients"]["0"]) == {"image", "audio"}


def test_a_branch_is_plain_data(found: Look) -> None:
    told = found.to_json()
    assert isinstance(found.tree, Branch)
    assert json.loads(json.dumps(told))["interference"]["layers"]
