"""Importing the package and asking for help stay light, wherever they happen."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "transformers", "peft", "scipy", "matplotlib")
HELP = (
    "from typer.testing import CliRunner; from omnicompose.cli import app; "
    "assert CliRunner().invoke(app, ['--help']).exit_code == 0; "
    "assert CliRunner().invoke(app, ['compose', '--help']).exit_code == 0"
)
REPORT = f"import sys; print(sorted(set({HEAVY!r}) & set(sys.modules)))"


def python(code: str, folder: Path) -> str:
    """What a fresh interpreter prints, started in `folder`."""
    prelude = f"import sys; sys.path.insert(1, {str(ROOT)!r})\n"
    done = subprocess.run(
        [sys.executable, "-c", prelude + code],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip().splitlines()[-1]


@pytest.mark.parametrize(
    "statement",
    [
        "import omnicompose",
        "import omnicompose.errors, omnicompose.modalities, omnicompose.recipe",
        "import omnicompose.cli",
        "import omnicompose.ask",
        HELP,
    ],
)
def test_no_heavy_import(tmp_path: Path, statement: str) -> None:
    assert python(f"{statement}\n{REPORT}", tmp_path) == "[]"


def test_a_heavy_import_is_found(tmp_path: Path) -> None:
    assert python(f"import sys; sys.modules['torch'] = sys\n{REPORT}", tmp_path) == "['torch']"


def test_a_users_own_rooms_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "evaluation.py").write_text("raise RuntimeError('the wrong room')")
    for name in ("encoders", "connectors"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('the wrong room')")
    code = "import omnicompose, omnicompose.encoders, omnicompose.evaluation; print('fine')"
    assert python(code, tmp_path) == "fine"
