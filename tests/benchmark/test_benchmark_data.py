"""Methods that look at data, in a benchmark: shown other questions than those that rank them."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from omnicompose.benchmark import BenchmarkOptions, Suite, read_suite, run_benchmark
from omnicompose.benchmark.bench import open_bench
from omnicompose.benchmark.calibration import refuse_leaks, write_calibration
from omnicompose.benchmark.questions import read_questions
from omnicompose.benchmark.report import findings, markdown
from omnicompose.benchmark.summary import Summary
from omnicompose.errors import EvaluationError, TuningError
from omnicompose.merger import merge
from omnicompose.searching import black_box

SUITE = """
summary: two adapters of one model
base: zoo:llava
models: {standard: zoo:image-standard, stressed: zoo:image-stressed}
tasks: [zoo/image]
seeds: 1
limit: 8
calibration: {standard: capability-validation/vqa, stressed: capability-validation/chart}
calibration_limit: 2
budgets:
  adamerging: {steps: 1, batch_size: 2}
  expert_merging: {steps: 1}
  expert_merging_plus_plus: {steps: 1}
  fw_merging: {steps: 1}
  adamms: {new_tokens: 2}
  es_merging: {projections: 8}
  evo_merging: {density_evaluations: 4, weight_evaluations: 4}
  cma_es: {evaluations: 4}
  bayes: {evaluations: 2}
"""
Rows = Mapping[str, Mapping[str, str]]


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    path = tmp_path_factory.mktemp("suite") / "own.yaml"
    path.write_text(SUITE, encoding="utf-8")
    return read_suite(str(path))


@pytest.fixture(scope="module")
def done(suite: Suite, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Summary]:
    out = tmp_path_factory.mktemp("run") / "out"
    return out, run_benchmark(suite, out, BenchmarkOptions(methods=("all-data",)))


@pytest.fixture(scope="module")
def rows(done: tuple[Path, Summary]) -> Rows:
    with (done[0] / "results.csv").open(encoding="utf-8") as file:
        return {row["row"]: row for row in csv.DictReader(file)}


def test_every_method_that_looks_at_data_has_a_row(suite: Suite, rows: Rows) -> None:
    expected = {"fisher", "regmean", "regmean_plus_plus", "frank", *suite.budgets}
    assert rows.keys() >= expected
    assert {label: rows[label]["reason"] for label in expected if rows[label]["reason"]} == {}
    assert rows["regmean"]["data"] == "4 questions: Grams of inputs"
    assert rows["bayes"]["data"] == "4 questions and replies"
    assert rows["bayes"]["parameters"] == "evaluations=2"
    assert rows["linear"]["data"] == rows["weight average"]["data"] == ""
    for label in expected:
        assert float(rows[label]["merge_cpu_seconds"]) > 0
    # The model in memory counts, not the engine's buffers alone.
    assert int(rows["adamerging"]["peak_memory_bytes"]) > 4_000_000


def test_the_page_says_what_each_row_was_shown(done: tuple[Path, Summary]) -> None:
    page = markdown(done[1])
    assert "| data |" in page and "| 4 questions |" in page and "| none |" in page
    assert "4 questions of the models' own tasks" in "\n".join(findings(done[1]))


def test_what_was_found_can_be_merged_again(done: tuple[Path, Summary], tmp_path: Path) -> None:
    out = done[0]
    found = yaml.safe_load((out / "recipes" / "cma_es-0.found.yaml").read_text())
    assert found["method"] == "task_arithmetic" and "data" not in found["models"][0]
    asked = yaml.safe_load((out / "recipes" / "regmean-0.yaml").read_text())
    assert [Path(one["data"]).is_file() for one in asked["models"]] == [True, True]
    merge(out / "recipes" / "regmean-0.yaml", tmp_path / "again")
    assert (tmp_path / "again" / "model.safetensors").is_file()


def test_data_of_a_model_are_its_own_tasks_first_questions(suite: Suite, tmp_path: Path) -> None:
    written, shown = write_calibration(suite, tmp_path, None)
    lines = [json.loads(line) for line in written.files["stressed"].read_text().splitlines()]
    questions = shown.by_task["capability-validation/chart"]
    assert len(lines) == len(questions) == 2 and sum(written.num_questions.values()) == 4
    for line, asked in zip(lines, questions, strict=True):
        picture, text = line["content"]
        assert (tmp_path / "calibration" / picture["path"]).is_file()
        assert text == asked.content[1] and line["reply"] == asked.openings[asked.answer or 0]
    fewer, _ = write_calibration(suite, tmp_path / "fewer", 1)
    assert sum(fewer.num_questions.values()) == 2 and fewer.digest != written.digest


def test_a_medium_for_two_purposes_is_refused(suite: Suite, tmp_path: Path) -> None:
    test = read_questions(("capability/vqa",), tmp_path, 4)
    other = read_questions(("capability-validation/vqa",), tmp_path, 4)
    refuse_leaks(test, {"validation": other})
    with pytest.raises(EvaluationError, match=r"calibration: capability/vqa shows a medium that"):
        refuse_leaks(test, {"validation": other, "calibration": test})


def test_other_data_make_other_rows_of_those_methods_alone(suite: Suite, tmp_path: Path) -> None:
    from omnicompose.benchmark.cells import cells_of

    changed = suite.model_copy(update={"calibration_limit": 1})
    first = open_bench(suite, tmp_path / "a", BenchmarkOptions())
    second = open_bench(changed, tmp_path / "a", BenchmarkOptions())
    same = {
        cell.label: first.row_key(cell, cell.label) == second.row_key(cell, cell.label)
        for cell in cells_of(suite, ["ties", "regmean"])
    }
    assert same == {"linear": True, "ties": True, "regmean": False}


def test_a_search_that_fails_is_told_and_tried_again(
    suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_self: object, _recipe: object, _plain: object) -> float:
        raise TuningError("no fitness today")

    options = BenchmarkOptions(methods=("cma_es",))
    with monkeypatch.context() as patch:
        patch.setattr(black_box.Judging, "value", fails)
        summary = run_benchmark(suite, tmp_path / "out", options)
    (row,) = summary.skipped
    assert "no fitness today" in row.reason and row.data == "4 questions and replies"
    assert "- Not run: cma_es: " in "\n".join(findings(summary))
    said = list[str]()
    again = run_benchmark(suite, tmp_path / "out", options, said.append)
    assert again.skipped == () and len(said) == 1
