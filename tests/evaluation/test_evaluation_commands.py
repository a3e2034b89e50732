"""The commands around an evaluation, without a model."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from evaluation_fakes import FakeAnswerer, FakeTask
from test_evaluation_report import knows_more_with_more
from typer.testing import CliRunner

from omnicompose.cli import app
from omnicompose.errors import EvaluationError
from omnicompose.evaluation import EvaluationOptions, Share, write_report
from omnicompose.evaluation.evaluate import ask
from omnicompose.evaluation.interference import read_interference
from omnicompose.evaluation.results import Results
from omnicompose.shelf import config_path

RUNNER = CliRunner()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("commands")
    for name, answer in (("a", knows_more_with_more), ("b", None), ("c", None)):
        answerer = FakeAnswerer(digest=name) if answer is None else FakeAnswerer(say=answer)
        options = EvaluationOptions(out_dir=out / name, modalities=("subsets", "swapped"))
        assert ask(answerer, [FakeTask(num=40)], options, (Path(name), Share())) is not None
    return out


def call(*words: str) -> str:
    result = RUNNER.invoke(app, list(words))
    assert result.exit_code == 0, result.output
    return result.output


def test_tasks_are_listed_with_all_that_they_declare() -> None:
    listed = json.loads(call("evaluate", "--tasks", "list", "--json"))
    names = {task["name"] for task in listed}
    assert {"zoo/mcub", "mcub4", "omnibench", "daily-omni", "avhbench", "worldsense"} <= names
    for task in listed:
        assert task["licence"]
        assert task["cluster_field"]
        assert {"checksum", "location", "prompt", "official", "layout"} <= task.keys()
    assert "zoo/mcub" in call("evaluate", "--tasks", "list")


def test_compare_prints_every_pair(folders: Path) -> None:
    names = [str(folders / name) for name in "abc"]
    rows = json.loads(call("compare", *names, "--json"))
    assert {row["against"] for row in rows} == set(names[1:])
    full = next(row for row in rows if row["shown"] == "image+audio")
    assert full["first"] > full["other"]
    assert full["p_holm"] >= full["p_value"]
    assert "points" in call("compare", *names)
    alone = RUNNER.invoke(app, ["compare", names[0]])
    assert alone.exit_code == 2
    assert "found one results folder, expected two" in alone.output


def test_other_media_under_the_same_ids_are_not_compared(folders: Path, tmp_path: Path) -> None:
    options = EvaluationOptions(out_dir=tmp_path, modalities=("swapped",), seed=7)
    assert ask(FakeAnswerer(), [FakeTask(num=40)], options, (tmp_path, Share())) is not None
    refused = RUNNER.invoke(app, ["compare", str(folders / "a"), str(tmp_path)])
    assert refused.exit_code == 2
    assert "different prompts or media" in refused.output


def test_scores_and_schema(folders: Path) -> None:
    found = Results.model_validate(json.loads(call("score", str(folders / "a"), "--json")))
    assert found.tasks["fake/common"].controls
    written = json.loads((folders / "a/results.json").read_text())
    assert written.keys() == Results.model_json_schema()["properties"].keys()


def test_a_report_shows_interference_of_the_recipe(folders: Path) -> None:
    recipe = str(config_path("naive-stressed.yaml"))
    call("report", str(folders / "a"), "--recipe", recipe, "--expert", f"image={folders / 'b'}")
    found = read_interference(folders / "a")
    assert found is not None
    names = [layer.name for layer in found.layers]
    assert names[:2] == ["0", "1"]
    assert set(found.layers[0].norms) == {"image", "audio", "video"}
    assert set(found.layers[0].cosine) == {"audio+image", "audio+video", "image+video"}
    assert all(norm > 0 for norm in found.layers[0].norms.values())
    assert all(abs(value) < 0.9 for value in found.layers[0].cosine.values())
    assert all(0.2 < value < 0.8 for value in found.layers[0].conflict.values())
    page = (folders / "a/report.html").read_text(encoding="utf-8")
    for wanted in ("How the experts contradict one another", "When media are exchanged", "linear"):
        assert wanted in page
    assert "## Interference of the experts" in (folders / "a/report.md").read_text()
    (folders / "a/interference.json").write_text("{}")
    with pytest.raises(EvaluationError, match=r"interference\.json: Field required"):
        write_report(folders / "a")
    (folders / "a/interference.json").unlink()


def test_words_on_the_command_line_are_checked(folders: Path, tmp_path: Path) -> None:
    for words, message in (
        (["evaluate", "--tasks", "zoo/mcub"], "name the composite's DIR"),
        (["report", str(folders / "a"), "--expert", "image"], "expected NAME=RESULTS"),
    ):
        result = RUNNER.invoke(app, words)
        assert result.exit_code == 2
        assert message in result.output
    ids = tmp_path / "ids.json"
    ids.write_text("{}")
    words = ["evaluate", str(tmp_path), "--tasks", "zoo/mcub", "--out", str(tmp_path / "o")]
    result = RUNNER.invoke(app, [*words, "--samples", str(ids)])
    assert "expected a JSON list of question" in " ".join(result.output.split())


def test_questions_are_made_on_the_command_line(tmp_path: Path) -> None:
    out = tmp_path / "mcub-built"
    words = ["mcub", "build", "zoo", "--out", str(out), "--questions", "20"]
    leakage = json.loads(call(*words, "--words-first", "--json"))
    assert leakage["readers"]["captions"]["value"] == 1.0
    assert "options only" in call(*words)


def test_only_the_ids_that_are_named_are_asked(tmp_path: Path) -> None:
    options = EvaluationOptions(out_dir=tmp_path, ids=("q0002", "q0005"))
    results = ask(FakeAnswerer(), [FakeTask()], options, (tmp_path, Share()))
    assert results is not None
    assert results.tasks["fake/common"].questions == 2
    with pytest.raises(EvaluationError, match="1 ids are not the task's, the first is 'q9999'"):
        ask(FakeAnswerer(), [FakeTask()], replace(options, ids=("q9999",)), (tmp_path, Share()))
