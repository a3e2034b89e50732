"""The command line is a contract: commands and options are frozen by this list."""

import pytest
import typer
from typer.testing import CliRunner

from omnicompose.cli import app

RUN = ["--allow-nonfinite", "--allow-pickle", "--device", "--memory", "--out", "--overwrite"]
RUN += ["--resume", "--trust-remote-code", "RECIPE"]
SURFACE: dict[str, list[str]] = {
    "quickstart": ["--out", "--overwrite"],
    "schema": [],
    "train": ["--device", "--out", "--overwrite", "--resume", "CONFIG"],
    "tune": [
        "--batch_size",
        "--evaluations",
        "--knots",
        "--limit",
        "--objective",
        "--out",
        "--search",
        "--seed",
        "--task",
        "--unlabelled",
        "--validation",
        "RECIPE",
    ],
    "inspect": ["--allow-pickle", "--base", "--json", "SOURCE"],
    "plan": ["--allow-pickle", "--json", "--trust-remote-code", "RECIPE"],
    "compose": RUN,
    "merge": RUN,
    "collect": [
        "--allow-pickle",
        "--data",
        "--labels",
        "--limit",
        "--out",
        "--overwrite",
        "--seed",
        "--what",
        "SOURCE",
    ],
    "add-statistics": ["--out", "--overwrite", "FILE..."],
    "align": ["--how", "--out", "--overwrite", "--regularisation", "--seed", "MODEL", "REFERENCE"],
    "prior": ["--out", "--overwrite", "REASONING", "VISION"],
    "verify": ["--every-tensor", "--hashes-only", "--inputs", "DIR"],
    "look": ["--json", "--measure", "RECIPE"],
    "serve": ["--device", "--host", "--port", "--waiting", "DIR"],
    "export": ["--form", "--inputs", "--out", "--overwrite", "--rank", "--results", "DIR"],
    "push": ["--json", "--private", "--send", "DIR", "OWNER/NAME"],
    "ask": ["--audio", "--device", "--image", "--json", "--point", "--video", "DIR", "QUESTION"],
    "evaluate": [
        "--allow-errors",
        "--baseline",
        "--batch_size",
        "--data",
        "--device",
        "--dtype",
        "--fresh",
        "--json",
        "--limit",
        "--limit-order",
        "--log_samples",
        "--modalities",
        "--num-workers",
        "--out",
        "--predict_only",
        "--rotations",
        "--samples",
        "--score",
        "--seed",
        "--tasks",
        "DIR",
    ],
    "score": ["--json", "--lmms-eval", "RESULTS"],
    "compare": ["--json", "A B..."],
    "report": ["--expert", "--recipe", "RESULTS"],
    "mcub": ["build"],
    "mcub build": [
        "--json",
        "--lexicon",
        "--modalities",
        "--out",
        "--questions",
        "--seed",
        "--words-first",
        "CAPTIONS",
    ],
    "benchmark": [
        "--batch_size",
        "--json",
        "--keep",
        "--limit",
        "--methods",
        "--out",
        "--seeds",
        "SUITE",
    ],
    "methods": ["--json", "NAME"],
    "families": ["--json"],
    "zoo": ["--json", "list", "media", "path"],
    "zoo list": ["--json"],
    "zoo media": ["DIR"],
    "zoo path": ["NAME"],
}
"""Command to its options, arguments and sub-commands. Add to it; take nothing away."""


def surface(command: object, name: str = "") -> dict[str, list[str]]:
    found = {}
    for word, child in getattr(command, "commands", {}).items():
        path = f"{name} {word}".strip()
        names = [
            parameter.opts[0]
            if parameter.param_type_name == "option"
            else parameter.metavar or parameter.name.upper()
            for parameter in child.params
        ]
        found[path] = sorted([*names, *getattr(child, "commands", {})])
        found |= surface(child, path)
    return found


def test_no_line_of_the_list_is_cut() -> None:
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "80"}).output
    assert "..." not in shown.partition("Commands:")[2]


def test_options_say_what_they_take() -> None:
    asked = CliRunner().invoke(app, ["ask", "--help"]).output
    assert [word for word in ("A picture;", "A sound;", "A clip;") if word not in asked] == []
    assert "[default: 2GiB]" in CliRunner().invoke(app, ["compose", "--help"]).output


def test_the_surface_is_frozen() -> None:
    assert surface(typer.main.get_command(app)) == SURFACE


@pytest.mark.parametrize("command", SURFACE)
def test_every_command_explains_itself(command: str) -> None:
    done = CliRunner().invoke(app, [*command.split(), "--help"])
    assert done.exit_code == 0
    assert "Usage:" in done.output
    for name in SURFACE[command]:
        assert name in done.output
