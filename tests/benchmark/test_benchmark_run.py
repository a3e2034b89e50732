"""A benchmark from end to end: two real fine-tunes of the zoo's LLaVA, merged, asked, ranked."""

import csv
from contextlib import chdir
from pathlib import Path
from statistics import fmean

import pytest
import torch
from safetensors.torch import load_file

from omnicompose.benchmark import BenchmarkOptions, Suite, read_suite, run_benchmark
from omnicompose.benchmark.ground import build_merge
from omnicompose.benchmark.host import Host, open_host
from omnicompose.benchmark.rows import sole_writer
from omnicompose.benchmark.summary import Summary
from omnicompose.composer import compose
from omnicompose.errors import EvaluationError

SUITE = """
summary: two adapters of one model
base: zoo:llava
models: {standard: zoo:image-standard, stressed: zoo:image-stressed}
joint: zoo:image-standard
tasks: [zoo/image]
skills: [zoo/image@captions]
validation: [zoo/video@none]
scales: [0.5, 1.0]
pair: [stressed, standard]
seeds: 2
limit: 24
variants:
  factors: {method: modelcompose_factors, parameters: {strategy: mean}}
  slerp of one: {method: slerp, models: [standard]}
"""
RECIPE: dict[str, object] = {
    "base": "zoo:llava",
    "models": [{"source": "zoo:image-standard"}, {"source": "zoo:image-stressed"}],
    "method": "ties",
    "dtype": "float32",
}
METHODS = ("dare_linear", "ties", "nearswap", "factors", "slerp of one")
ONE = "nearswap of stressed"


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    path = tmp_path_factory.mktemp("suite") / "own.yaml"
    path.write_text(SUITE, encoding="utf-8")
    return read_suite(str(path))


@pytest.fixture(scope="module")
def done(suite: Suite, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Summary, list[str]]:
    folder, said = tmp_path_factory.mktemp("run"), list[str]()
    with chdir(folder):
        summary = run_benchmark(suite, Path("out"), BenchmarkOptions(methods=METHODS), said.append)
    return folder / "out", summary, said


@pytest.fixture(scope="module")
def host(suite: Suite, tmp_path_factory: pytest.TempPathFactory) -> Host:
    return open_host(suite, tmp_path_factory.mktemp("host"))


def test_every_row_is_there_once(done: tuple[Path, Summary, list[str]]) -> None:
    out, summary, _ = done
    with (out / "results.csv").open(encoding="utf-8") as file:
        rows = {row["row"]: row for row in csv.DictReader(file)}
    references = {"base", "standard", "stressed", "joint training", "weight average"}
    assert rows.keys() == (references | {"linear", ONE, *METHODS}) - {"nearswap"}
    # The adapters have other ranks, so their factors cannot be averaged; the row says so.
    assert rows["factors"]["kind"] == "not run" and "one rank" in rows["factors"]["reason"]
    assert rows["slerp of one"]["reason"] == "takes 2 models, found 1"
    assert (rows[ONE]["kind"], rows[ONE]["models"]) == ("method", "stressed")
    assert rows["ties"]["models"] == "standard stressed"
    assert rows["dare_linear"]["seeds"] == "2"
    runs = [float(score) for score in rows["dare_linear"]["score_of_runs"].split()]
    assert len(runs) == 2 and fmean(runs) == pytest.approx(float(rows["dare_linear"]["score"]))
    assert rows["linear"]["score_at_scale_1"] == rows["weight average"]["score"]
    assert {tried.scale for tried in summary.standings[-1].row.tried} == {0.5, 1.0}
    assert (out / "report.md").is_file() and (out / "pareto.svg").is_file()
    assert not (out / ".work").exists()


def test_experts_are_asked_as_they_are(done: tuple[Path, Summary, list[str]]) -> None:
    scores = {one.row.label: one.score.value for one in done[1].standings}
    assert scores["standard"] == scores["joint training"]
    assert scores["standard"] > 0.7 > 0.5 > scores["base"]  # type: ignore[operator]


def test_a_second_run_makes_nothing_again(
    suite: Suite, done: tuple[Path, Summary, list[str]]
) -> None:
    out, summary, said = done
    more = list[str]()
    again = run_benchmark(suite, out, BenchmarkOptions(methods=METHODS), more.append)
    assert len(said) == 11 and more == []
    assert again == summary


def test_a_folder_that_another_run_holds_is_refused(suite: Suite, tmp_path: Path) -> None:
    with (
        sole_writer(tmp_path),
        pytest.raises(EvaluationError, match="another process is running a benchmark into"),
    ):
        run_benchmark(suite, tmp_path, BenchmarkOptions(methods=METHODS), list[str]().append)


def test_a_merge_in_memory_is_the_merge_on_disk(host: Host, tmp_path: Path) -> None:
    built = build_merge(RECIPE, tmp_path / "merged")
    host.take(load_file(built.folder / "model.safetensors"), 1.0)
    file = tmp_path / "alone.yaml"
    file.write_text(
        f"base: zoo:base\nexperts: {{image: {{source: {built.folder}, weight: 1.0}}}}\n"
        "allow_different_base: true\ndtype: float32\n"
    )
    compose(file, tmp_path / "alone")
    expected = load_file(tmp_path / "alone" / "model.safetensors")
    held = host.composite.model.state_dict()  # type: ignore[attr-defined]
    for name in set(host.places.values()):
        if "embed_tokens" not in name:  # the smaller base lacks the placeholder's row
            torch.testing.assert_close(held[name], expected[name], rtol=0, atol=2e-6)


def test_a_scale_is_a_stage_of_a_recipe(host: Host, tmp_path: Path) -> None:
    scaled = RECIPE | {"then": [{"method": "task_arithmetic", "parameters": {"scale": 0.5}}]}
    whole = load_file(build_merge(RECIPE, tmp_path / "whole").folder / "model.safetensors")
    half = load_file(build_merge(scaled, tmp_path / "half").folder / "model.safetensors")
    host.take(whole, 0.5)
    held = host.composite.model.state_dict()  # type: ignore[attr-defined]
    for name, value in half.items():
        torch.testing.assert_close(held[host.places[name]], value, rtol=0, atol=1e-6)


def test_a_tensor_that_the_base_lacks_is_told(host: Host) -> None:
    with pytest.raises(EvaluationError, match=r"strange \[2\]: the merged model has it"):
        host.take({"strange": torch.zeros(2)}, 1.0)


def test_a_tensor_that_the_merge_lacks_is_told(host: Host, tmp_path: Path) -> None:
    """The model before it would be asked in its place."""
    merged = load_file(build_merge(RECIPE, tmp_path / "merged").folder / "model.safetensors")
    name = sorted(merged)[0]
    del merged[name]
    with pytest.raises(
        EvaluationError, match=rf"{name}: the base has it.*\(1 of {len(merged) + 1} "
    ):
        host.take(merged, 1.0)


def test_a_base_that_changed_since_a_run_was_cut_off_is_composed_again(
    suite: Suite, host: Host, tmp_path: Path
) -> None:
    open_host(suite, tmp_path)
    left = tmp_path / "host" / "model.safetensors"
    left.write_bytes(left.read_bytes()[:-64] + bytes(64))
    again = open_host(suite, tmp_path)
    assert all(torch.equal(again.base[name], value) for name, value in host.base.items())
