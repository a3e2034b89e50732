"""Every block on the pages of docs/ is run, page by page, in the order of reading."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from omnicompose.cli import app

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
TITLE = re.compile(r'title="([\w./-]+)"')
SHOWN = ("text", "mermaid")
"""Blocks that are not run: what waits for a person, a hub or an hour."""
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))


def blocks(page: str) -> list[tuple[str, str | None, str]]:
    """Language, file name and content of every block."""
    text = (DOCS / page).read_text(encoding="utf-8")
    found = []
    for language, options, content in BLOCK.findall(text):
        title = TITLE.search(options)
        found.append((language, title[1] if title else None, content))
    assert text.count("```") == 2 * len(found), f"{page}: a block that is not seen"
    return found


def run_commands(text: str) -> None:
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line)
        if words[0] == "omnicompose":
            done = CliRunner().invoke(app, words[1:])
            assert done.exit_code == 0, f"{line}\n{done.output}\n{done.exception!r}"
        else:
            assert words[0] == "python", line
            source = (ROOT / words[1]).read_text(encoding="utf-8")
            exec(compile(source, words[1], "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)])
def test_every_block_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before, names = set(sys.modules), {}
    from omnicompose.merging.registry import METHODS

    methods = dict(METHODS)
    for language, title, content in blocks(page):
        if title is not None:
            (tmp_path / title).write_text(content, encoding="utf-8")
        elif language == "bash":
            run_commands(content)
        elif language == "python":
            exec(compile(content, f"{page}", "exec"), names)
        else:
            assert language in SHOWN, f"{page}: a block of {language} without a title"
    METHODS.clear()
    METHODS.update(methods)
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def test_pages_can_be_followed_one_after_the_other_in_one_folder() -> None:
    """No page finds a recipe or a composite of another page under its own names."""
    owners: dict[str, str] = {}
    for page in [*PAGES, "../README.md"]:
        text = (DOCS / page).read_text(encoding="utf-8")
        commands = re.findall(r"^omnicompose compose .*--out (\S+)", text, re.MULTILINE)
        written = {*TITLE.findall(text), *commands}
        for name in written:
            assert owners.setdefault(name, page) == page, f"{name}: {owners[name]} and {page}"


def test_the_site_builds(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="pip install 'omnicompose[docs]'")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"DISABLE_MKDOCS_2_WARNING": "true", "NO_MKDOCS_2_WARNING": "1"},
    )
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "site/reference/build/index.html").read_text(encoding="utf-8")
    assert "leave one finished folder" in page


def test_every_page_is_in_the_menu() -> None:
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert [page for page in PAGES if page not in menu] == []


def test_the_method_of_the_tutorial_has_thirty_lines() -> None:
    (text,) = [c for _, title, c in blocks("tutorials/add-a-method.md") if title == "median.py"]
    code = [line for line in text.splitlines() if line.strip()]
    assert len(code) <= 32


def test_every_dependency_is_in_the_audit() -> None:
    """`python docs/dependencies.py` prints the table anew."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    named = {
        re.split(r"[\[>=<]", one)[0]
        for found in (project["dependencies"], *extras)
        for one in found
    }
    page = (DOCS / "dependencies.md").read_text(encoding="utf-8")
    listed = {
        name
        for line in page.splitlines()
        if line.startswith("| ")
        for name in line.split("|")[3].split(", ")
    }
    listed = {name.strip() for name in listed}
    assert {re.sub(r"[-_.]+", "-", name).lower() for name in named} - listed == {"omnicompose"}
