"""What users of other harnesses type: shares, file order, sizes that fit, fresh, predict only."""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import typer
from evaluation_fakes import FakeAnswerer, FakeTask
from evaluation_folders import write_folders
from typer.testing import CliRunner

from omnicompose.cli import app
from omnicompose.commands import evaluation_options
from omnicompose.errors import EvaluationError
from omnicompose.evaluation import EvaluationOptions, Results, Share, discard
from omnicompose.evaluation.answerer import Prepared
from omnicompose.evaluation.evaluate import answer, ask
from omnicompose.evaluation.journal import open_journal, read_lines
from omnicompose.evaluation.tasks import find_tasks
from omnicompose.evaluation.tasks.records import json_lines

RUNNER = CliRunner()
WHERE = (Path("model"), Share())
MERGED = "samples_fake_common.jsonl"


def run(
    out: Path, answerer: FakeAnswerer | None = None, num: int = 40, **changes: object
) -> Results:
    options = replace(EvaluationOptions(out_dir=out), **changes)  # type: ignore[arg-type]
    results = ask(answerer or FakeAnswerer(), [FakeTask(num=num)], options, WHERE)
    assert results is not None
    return results


def ids(out: Path) -> list[str]:
    return [line.id for line in read_lines(out / MERGED)]


@pytest.mark.parametrize(("limit", "kept"), [(0.1, 4), (0.001, 1), (0.99, 40), (7, 7), (100, 40)])
def test_a_limit_is_a_number_or_a_share(tmp_path: Path, limit: float, kept: int) -> None:
    results = run(tmp_path, limit=limit)
    assert results.tasks["fake/common"].questions == kept
    assert results.run is not None
    assert results.run.limit == limit
    assert results.run.is_partial
    assert results.macro == {}


def test_a_limit_may_leave_the_first_of_the_file(tmp_path: Path) -> None:
    run(tmp_path / "file", limit=5, limit_order="file")
    assert ids(tmp_path / "file") == [f"q{i:04d}" for i in range(5)]
    run(tmp_path / "seed", limit=5)
    assert ids(tmp_path / "seed") != ids(tmp_path / "file")


@pytest.mark.parametrize("limit", [0.0, 1.5, -3, float("nan")])
def test_other_limits_are_refused(tmp_path: Path, limit: float) -> None:
    with pytest.raises(EvaluationError, match=r"--limit: found .*, expected a whole"):
        EvaluationOptions(out_dir=tmp_path, limit=limit)


@dataclass
class Small(FakeAnswerer):
    """Has room for so many prompts at once."""

    room: int = 3

    def letter_log_likelihoods(
        self, batch: "list[Prepared]", num_letters: int
    ) -> list[tuple[float, ...]]:
        if len(batch) > self.room:
            raise MemoryError("CUDA out of memory")
        return super().letter_log_likelihoods(batch, num_letters)


def test_a_batch_that_does_not_fit_is_halved_until_it_does(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    small = Small()
    with caplog.at_level(logging.WARNING):
        run(tmp_path / "small", small, num=16, batch_size="auto")
    assert small.forwarded == [2] * 8
    assert "memory ran out; asking 8 questions at once" in caplog.text
    run(tmp_path / "large", num=16)
    assert (tmp_path / "small" / MERGED).read_bytes() == (tmp_path / "large" / MERGED).read_bytes()
    with pytest.raises(EvaluationError, match=r"16 questions at once .*--batch_size auto"):
        run(tmp_path / "fixed", Small(), num=16, batch_size=64)
    with pytest.raises(EvaluationError, match="with 1 questions at once"):
        run(tmp_path / "none", Small(room=0), num=2, batch_size="auto")


def test_memory_that_ran_out_is_known_on_every_device() -> None:
    import torch

    from omnicompose.evaluation.next_token import memory_told

    told: tuple[Callable[[], None], ...] = (
        lambda: torch.empty(1 << 46),
        lambda: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA out of memory")),
    )
    for fail in told:
        with pytest.raises(MemoryError), memory_told():
            fail()
    with pytest.raises(RuntimeError, match="other"), memory_told():
        raise RuntimeError("other")


def test_what_was_answered_can_be_forgotten(tmp_path: Path) -> None:
    run(tmp_path)
    discard(tmp_path, ["fake/other"])
    kept = FakeAnswerer()
    run(tmp_path, kept)
    assert kept.forwarded == []
    discard(tmp_path, ["fake/common"])
    assert not (tmp_path / MERGED).exists()
    again = FakeAnswerer()
    run(tmp_path, again)
    assert sum(again.forwarded) == 40
    with (
        open_journal(tmp_path / "journal/fake_common.rank0.jsonl"),
        pytest.raises(EvaluationError, match="another process is writing this journal"),
    ):
        discard(tmp_path, ["fake/common"])


def test_answers_may_be_scored_later(tmp_path: Path) -> None:
    options = EvaluationOptions(out_dir=tmp_path)
    assert answer(FakeAnswerer(), [FakeTask()], options, WHERE)
    assert not (tmp_path / "results.json").exists()
    result = RUNNER.invoke(app, ["score", str(tmp_path), "--lmms-eval"])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "results.json").is_file()
    written = json.loads((tmp_path / "lmms-eval/omnicompose_results.json").read_text())
    assert "fake/common:image+audio:image+audio:letter" in written["results"]


def test_the_data_that_were_read_are_named_by_digest(tmp_path: Path) -> None:
    data = write_folders(tmp_path / "data")
    tasks = find_tasks(["pope", "avqa"], data)
    options = EvaluationOptions(out_dir=tmp_path / "out", data_dir=data)
    results = ask(FakeAnswerer(), tasks, options, WHERE)
    assert results is not None
    assert results.run is not None
    assert {name: set(files) for name, files in results.run.data.items()} == {
        "pope": {"coco_pope_*.json"},
        "avqa": {"val_qa.json"},
    }
    assert all(len(d) == 64 for files in results.run.data.values() for d in files.values())


@pytest.fixture
def fake_model(monkeypatch: pytest.MonkeyPatch) -> FakeAnswerer:
    """`load_composite` gives a model without weights."""
    import omnicompose.evaluation.loading as loading

    model = FakeAnswerer()
    monkeypatch.setattr(loading, "load_composite", lambda *_: model)
    return model


def call(*words: object) -> str:
    result = RUNNER.invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_command_knows_the_words_of_other_harnesses(
    fake_model: FakeAnswerer, tmp_path: Path
) -> None:
    words = ["evaluate", tmp_path, "--tasks", "zoo/audio", "--limit", "0.01", "--log_samples"]
    words += ["--batch_size", "auto", "--score", "letter,official"]
    said = call(*words, "--output_path", tmp_path / "a", "--predict_only")
    assert "computes the results" in said
    assert not (tmp_path / "a/results.json").exists()
    found = json.loads(call(*words, "--out", tmp_path / "a", "--json"))
    assert found["tasks"]["zoo/audio"]["questions"] == 10
    assert {row["score"] for row in found["tasks"]["zoo/audio"]["rows"]} == {"letter", "generate"}
    asked = sum(fake_model.forwarded)
    call(*words, "--out", tmp_path / "a")
    assert sum(fake_model.forwarded) == asked
    call(*words, "--out", tmp_path / "a", "--fresh")
    assert sum(fake_model.forwarded) == 2 * asked


def test_a_baseline_is_compared_at_once(fake_model: FakeAnswerer, tmp_path: Path) -> None:
    words = ["evaluate", tmp_path, "--tasks", "zoo/audio", "--limit", "20", "--score", "letter"]
    call(*words, "--out", tmp_path / "a")
    fake_model.digest, fake_model.say = "other", lambda prompt: "A"
    words += ["--out", tmp_path / "b", "--baseline", tmp_path / "a"]
    found = json.loads(call(*words, "--json"))
    (row,) = found["baseline"]
    assert (row["against"], row["n"]) == (str(tmp_path / "a"), 20)
    said = call(*words)
    assert "points" in said
    assert "partial: at most 20 questions per set of modalities" in said


@pytest.mark.parametrize("flag", [["--fresh"], ["--num-workers", "2"]])
def test_a_launchers_processes_neither_forget_nor_multiply(
    fake_model: FakeAnswerer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flag: list[str]
) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    words = ["evaluate", str(tmp_path), "--tasks", "zoo/audio", "--out", str(tmp_path / "o"), *flag]
    result = RUNNER.invoke(app, words)
    assert result.exit_code == 2
    assert "under a launcher that started 2 processes" in " ".join(result.output.split())


def test_words_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    for flag, value in (("--limit", "many"), ("--batch_size", "big")):
        result = RUNNER.invoke(app, ["evaluate", str(tmp_path), "--tasks", "x", flag, value])
        assert result.exit_code == 2
        assert f"found '{value}', expected a number" in " ".join(result.output.split())
    with pytest.raises(typer.BadParameter):
        evaluation_options.read_ids(tmp_path / "gone.json")


def test_nothing_to_ask_is_said_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"with --modalities video; its .* show image\+audio"):
        run(tmp_path, modalities=("video",))


def test_a_file_is_no_folder_to_write(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(EvaluationError, match=r"--out: .* is a file, expected a folder"):
        EvaluationOptions(out_dir=tmp_path / "out")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "found no JSON"),
        ('{"model_type": "llama"}', "found a model of type 'llama', expected 'omnicompose'"),
        ("[]", "found a model of type None"),
        ('{"model_type": "omnicompose"}', "the composite cannot be loaded: .*omnicompose verify"),
    ],
)
def test_a_folder_that_is_no_composite_is_refused(
    tmp_path: Path, config: str, message: str
) -> None:
    from omnicompose.evaluation.loading import load_composite

    (tmp_path / "config.json").write_text(config)
    with pytest.raises(EvaluationError, match=message):
        load_composite(tmp_path, "cpu", "auto")


def test_a_device_that_is_not_there_is_refused(tmp_path: Path) -> None:
    from omnicompose.evaluation.loading import load_composite

    (tmp_path / "config.json").write_text('{"model_type": "omnicompose"}')
    for device in ("cuda:99", "toaster"):
        with pytest.raises(EvaluationError, match=f"--device {device}: .*such as cpu"):
            load_composite(tmp_path, device, "auto")


def test_lines_end_where_json_says_and_text_is_utf8(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('\ufeff{"a": "one\u2028line"}\r\n\n{"a": "two"}\n', encoding="utf-8")
    assert [record.text("a") for record in json_lines(path)] == ["one\u2028line", "two"]
    path.write_bytes(b'{"a": "\xff"}')
    with pytest.raises(EvaluationError, match=r"a\.jsonl: found bytes that are no UTF-8"):
        list(json_lines(path))
