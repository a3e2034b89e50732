"""An editable install is found before a folder that merely has the package's name."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_an_editable_install_is_a_plain_path() -> None:
    # setuptools installs its own finder, which comes after all paths, unless this is stated.
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert settings["tool"]["setuptools"]["package-dir"] == {"": "."}
    assert settings["project"]["scripts"] == {"omnicompose": "omnicompose.__main__:main"}
