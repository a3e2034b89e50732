"""The README says what the code does."""

import re
from pathlib import Path

from omnicompose.families.listing import families_markdown

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def test_the_families_are_those_that_the_command_lists():
    (found,) = re.findall(r"<!-- families -->\n(.*?)<!-- /families -->", README, re.DOTALL)
    assert found == families_markdown(), "copy `families_markdown()` between the markers"


def test_every_recipe_that_is_named_exists():
    root = Path(__file__).parents[2]
    named = re.findall(r"configs/[\w.-]+\.yaml", README)
    assert named
    assert [path for path in named if not (root / path).is_file()] == []
