"""Listing commands: a table for people, JSON for programs."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from omnicompose.cli import app
from omnicompose.families import FAMILIES, REFUSED
from omnicompose.media import check_media
from omnicompose.merging.registry import METHODS
from omnicompose.merging.searched import SEARCHED
from omnicompose.recipe import recipe_schema


def output(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 0, done.stderr
    return done.stdout


def test_schema_is_json() -> None:
    assert json.loads(output("schema")) == recipe_schema()


def test_methods_lists_every_method() -> None:
    rows = json.loads(output("methods", "--json"))
    assert [row["name"] for row in rows] == [*METHODS, *SEARCHED]
    assert all(row["formula"] and row["paper"] and row["needs"] for row in rows)
    table = output("methods")
    assert "linear" in table
    assert "density=0.2" in table


@pytest.mark.parametrize("name", METHODS)
def test_one_method_in_full(name: str) -> None:
    (row,) = json.loads(output("methods", name, "--json"))
    assert row["name"] == name
    spec = METHODS[name].spec
    assert row["parameters"].keys() == {parameter.name for parameter in spec.parameters}
    assert "formula" in output("methods", name)


def test_families() -> None:
    rows = json.loads(output("families", "--json"))
    assert [row["architecture"] for row in rows] == [*FAMILIES, *REFUSED]
    assert {row["state"] for row in rows} == {"composes", "refused"}
    assert "cross-attention" in output("families")


def test_the_zoo_gives_media_to_ask_about(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["zoo", "media", str(tmp_path / "media")])
    paths = [Path(line) for line in done.stdout.splitlines()]
    assert [path.name for path in paths] == ["picture.png", "sound.flac", "clip.mp4"]
    for path, modality in zip(paths, ("image", "audio", "video"), strict=True):
        check_media(path, modality)
