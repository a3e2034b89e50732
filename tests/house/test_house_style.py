"""The house style, checked by machines: ruff, mypy, short files, short functions, sound links."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 40

LONG_FILES: dict[str, str] = {
    "benchmarks/merge_speed.py": "one measurement in one file: disk, copies, both tools, table",
    "tests/evaluation/test_evaluation_runner.py": "every way a run can be cut off and resumed",
    "tests/recipe/test_recipe.py": "one table of every mistake that a recipe can hold",
}
"""Files over the limit, each with the reason."""

FOLDERS = ("omnicompose", "tests", "benchmarks")


def sources() -> Iterator[Path]:
    for folder in FOLDERS:
        yield from sorted((ROOT / folder).rglob("*.py"))


def run(*command: str) -> None:
    """Fail with everything that a tool complains about."""
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        pytest.fail(done.stdout + done.stderr, pytrace=False)


def test_ruff_finds_nothing() -> None:
    run("ruff", "check", "--no-cache", ".")


def test_everything_is_formatted() -> None:
    run("ruff", "format", "--no-cache", "--check", ".")


def test_types_are_right() -> None:
    run("mypy")


def test_files_are_short() -> None:
    lengths = {
        path.relative_to(ROOT).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in sources()
    }
    too_long = {name for name, length in lengths.items() if length > MAX_FILE_LINES}
    assert too_long - set(LONG_FILES) == set()
    assert set(LONG_FILES) <= set(lengths), "the list names files that are gone"


def test_functions_are_short() -> None:
    too_long = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {length}"
        for path in sources()
        if path.is_relative_to(ROOT / "omnicompose")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and (length := body_lines(node)) > MAX_FUNCTION_LINES
    ]
    assert too_long == []


def body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function's body without its docstring."""
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def test_body_lines_leaves_signature_and_docstring_out() -> None:
    text = 'def f(\n    a,\n    b,\n):\n    """One.\n\n    Two.\n    """\n    c = a\n    return c\n'
    node = ast.parse(text).body[0]
    assert isinstance(node, ast.FunctionDef)
    assert body_lines(node) == 2


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("encoders", "omnicompose/encoders"),
        ("connectors", "omnicompose/connectors"),
        ("evaluation", "omnicompose/evaluation"),
        ("omnicompose/configs", "../configs"),
    ],
)
def test_links_are_relative_views(link: str, target: str) -> None:
    path = ROOT / link
    assert path.is_symlink()
    assert path.readlink() == Path(target)
    assert path.is_dir()


def test_test_files_have_distinct_names() -> None:
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
    assert not list((ROOT / "tests").rglob("__init__.py"))
