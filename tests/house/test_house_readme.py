"""What the README shows exists: files, commands, options, recipes, the block of results."""

import re
import shlex
from pathlib import Path

import pytest
import typer
import yaml

from omnicompose.cli import app
from omnicompose.recipe import read_recipe

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = sorted(
    {
        line.strip("`| ").split("`")[0].strip()
        for line in README.splitlines()
        if re.match(r"(\| `|\.venv/bin/)?omnicompose ", line)
    }
)


def fences(language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return [text for name, text in found if name == language]


def test_the_tree_exists() -> None:
    (tree,) = [block for block in fences("") if block.startswith("omnicompose/ ")]
    folder = ROOT
    for line in tree.splitlines():
        name = line.split()[0]
        inside = line.startswith("  ")
        folder = folder if inside else ROOT / name
        path = folder / name if inside else folder
        assert path.exists(), name
        assert len(line.split(maxsplit=1)) == 2, f"{name}: no line that says what it is for"


def test_the_readme_names_commands() -> None:
    assert len(COMMANDS) > 15


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_exists_with_its_options(command: str) -> None:
    words = shlex.split(re.sub(r"[\[\]]|\.\.\.", " ", command.removeprefix(".venv/bin/")))
    found = typer.main.get_command(app)
    for word in words[1:]:
        found = getattr(found, "commands", {}).get(word, found)
    assert found.name == words[1] or words[1] in ("zoo", "mcub")
    known = {option for parameter in found.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known


def test_every_command_of_the_program_is_in_the_readme() -> None:
    named = {shlex.split(command.replace("'", ""))[1] for command in COMMANDS}
    assert set(typer.main.get_command(app).commands) <= named


@pytest.mark.parametrize("target", ["quickstart", "test", "lint"])
def test_make_targets_exist(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


def test_paths_in_the_text_exist() -> None:
    for name in re.findall(r"`((?:configs|omnicompose|tests|benchmarks)/[\w./-]+)`", README):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"\]\(([\w./-]+)\)", README):
        assert (ROOT / name).exists(), name


def test_the_recipe_shown_is_a_recipe(tmp_path: Path) -> None:
    (shown,) = fences("yaml")
    (tmp_path / "my-audio-expert").mkdir()
    path = tmp_path / "recipe.yaml"
    path.write_text(shown, encoding="utf-8")
    recipe = read_recipe(path)
    assert recipe.model_fields_set == set(yaml.safe_load(shown))


def test_the_block_of_results_can_be_updated() -> None:
    assert README.count("<!-- results:quickstart -->") == 1
    assert README.count("<!-- /results:quickstart -->") == 1


def test_continuous_integration_runs_the_tests() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert "make test" in script.read_text(encoding="utf-8")
