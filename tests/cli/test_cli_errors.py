"""How commands fail: the message alone, its exit code, a traceback only with --debug."""

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from omnicompose import recipe
from omnicompose.__main__ import main as program
from omnicompose.cli import app
from omnicompose.commands import failing

GOOD = "base: zoo:base\nexperts:\n  image: {source: zoo:image-standard}\n"


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("command", ["plan", "compose", "merge"])
def test_a_missing_recipe(tmp_path: Path, command: str) -> None:
    out = [] if command == "plan" else ["--out", tmp_path / "out"]
    done = invoke(command, tmp_path / "none.yaml", *out)
    assert done.exit_code == 2
    assert done.stderr == f"omnicompose: {tmp_path}/none.yaml: there is no such recipe file.\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base: zoo:base\nexprts: {}", "2: unknown key 'exprts'; did you mean 'experts'?"),
        (
            GOOD.replace("image:", "imge:"),
            "3: experts.imge: unknown modality 'imge'; did you mean 'image'?",
        ),
        (
            "base: zoo:base\nexperts: {}",
            (
                "2: experts: no experts. Name at least one by its modality, such as "
                "`image: {source: zoo:image-standard}`."
            ),
        ),
    ],
)
def test_a_wrong_recipe(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    done = invoke("compose", path, "--out", tmp_path / "out")
    assert (done.exit_code, done.stderr) == (2, f"omnicompose: {path}:{message}\n")
    assert not (tmp_path / "out").exists()


def test_a_merge_recipe_is_not_composed(tmp_path: Path) -> None:
    path = write(tmp_path, "models: [{source: a/b}]")
    done = invoke("compose", path, "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert done.stderr.endswith("found `models:`, a merge recipe. Use `omnicompose merge`.\n")


def test_a_wrong_size(tmp_path: Path) -> None:
    done = invoke("compose", write(tmp_path, GOOD), "--out", tmp_path / "out", "--memory", "2 GiBs")
    assert done.exit_code == 2
    assert "found '2 GiBs', expected a size such as '2GiB'" in " ".join(done.stderr.split())


def test_an_unknown_method() -> None:
    done = invoke("methods", "tiez")
    assert done.exit_code == 2
    assert done.stderr.startswith("omnicompose: method: found 'tiez', expected one of the ")
    assert "Did you mean ties?" in done.stderr


def test_an_unknown_command_and_a_missing_option(tmp_path: Path) -> None:
    assert invoke("compos").exit_code == 2
    assert invoke("compose", write(tmp_path, GOOD)).exit_code == 2


@pytest.mark.parametrize("place", ["before", "after"])
def test_debug_shows_the_traceback(tmp_path: Path, place: str) -> None:
    command = ["plan", tmp_path / "none.yaml"]
    done = invoke("--debug", *command) if place == "before" else invoke(*command, "--debug")
    assert done.exit_code == 2
    assert "Traceback (most recent call last)" in done.stderr
    assert done.stderr.endswith("there is no such recipe file.\n")


def test_our_own_faults_exit_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ZeroDivisionError("by us")

    monkeypatch.setattr(recipe, "recipe_schema", broken)
    done = invoke("schema")
    assert done.exit_code == failing.FAULT == 1
    assert done.stderr == (
        "omnicompose: a fault of omnicompose: ZeroDivisionError: by us\n"
        "Run the command again with --debug and report what it prints.\n"
    )


def test_what_the_disk_refuses_is_no_fault_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused() -> None:
        (tmp_path / "none/file").write_text("")

    monkeypatch.setattr(recipe, "recipe_schema", refused)
    done = invoke("schema")
    assert done.exit_code == 2
    assert done.stderr.startswith(f"omnicompose: {tmp_path}/none/file: No such file or directory.")

    def nameless() -> None:
        raise OSError("something")

    monkeypatch.setattr(recipe, "recipe_schema", nameless)
    assert invoke("schema").exit_code == failing.FAULT


def test_an_interruption_exits_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(recipe, "recipe_schema", interrupted)
    done = invoke("schema")
    assert (done.exit_code, done.stderr) == (130, "omnicompose: interrupted.\n")


@pytest.mark.parametrize("command", ["compose", "merge"])
def test_a_finished_folder_is_not_resumed(tmp_path: Path, command: str) -> None:
    recipe = GOOD if command == "compose" else "models: [{source: zoo:base}]\nmethod: linear\n"
    (tmp_path / "manifest.json").write_text("{}")
    done = invoke(command, write(tmp_path, recipe), "--out", tmp_path, "--resume")
    assert done.exit_code == 2
    assert done.stderr.startswith(f"omnicompose: {tmp_path}: is finished, there is nothing to res")


def test_an_interruption_of_the_first_imports_exits_with_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupted:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "omnicompose.cli":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "omnicompose.cli")
    monkeypatch.setattr(sys, "meta_path", [Interrupted(), *sys.meta_path])
    with pytest.raises(SystemExit) as left:
        program()
    assert left.value.code == failing.INTERRUPTED
    assert capsys.readouterr().err == "omnicompose: interrupted.\n"


def test_evaluate_wants_a_folder_and_an_output() -> None:
    done = invoke("evaluate", "--tasks", "zoo/mcub")
    assert done.exit_code == 2
    assert "name the composite's DIR and an output folder" in " ".join(done.stderr.split())
