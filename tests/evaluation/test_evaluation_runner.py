"""Resuming, sharing out and scoring: the oracles of specs/evaluation.md section 7."""

import fcntl
import json
from dataclasses import replace
from pathlib import Path

import pytest
from evaluation_fakes import FakeAnswerer, FakeTask, noise

from omnicompose.errors import EvaluationError
from omnicompose.evaluation import TASKS, write_report
from omnicompose.evaluation.answerer import Prompt
from omnicompose.evaluation.asking import Run
from omnicompose.evaluation.evaluate import ask
from omnicompose.evaluation.journal import read_lines, write_merged
from omnicompose.evaluation.options import EvaluationOptions
from omnicompose.evaluation.results import Results, Row
from omnicompose.evaluation.runner import SHARD_SAMPLES, Share, collect, run_task
from omnicompose.evaluation.sample import LETTERS
from omnicompose.evaluation.scoring import score

MODEL = Path("some/model")
MERGED = "samples_fake_common.jsonl"


def options(out: Path, **changes: object) -> EvaluationOptions:
    plain = EvaluationOptions(out_dir=out, modalities=("subsets", "captions"), batch_size=8)
    return replace(plain, **changes)  # type: ignore[arg-type]


def run(
    out: Path, answerer: FakeAnswerer | None = None, task: FakeTask | None = None, **changes: object
) -> Results:
    results = ask(
        answerer or FakeAnswerer(), [task or FakeTask()], options(out, **changes), (MODEL, Share())
    )
    assert results is not None
    return results


def full_row(results: Results, kind: str = "letter") -> Row:
    rows = results.tasks["fake/common"].rows
    return next(row for row in rows if row.is_full and row.score == kind)


def right(prompt: Prompt) -> str:
    return prompt.text.split("right=")[1][0]


def test_a_model_that_knows_everything(tmp_path: Path) -> None:
    results = run(tmp_path, FakeAnswerer(say=right), scores=("letter", "generate"))
    for row in results.tasks["fake/common"].rows:
        assert (row.accuracy.value, row.n, row.errors, row.unparsed) == (1.0, 12, 0, 0)
    subsets = [r.subset for r in results.tasks["fake/common"].rows if r.score == "letter"]
    assert subsets == ["image+audio", "image", "audio", "none", "captions"]
    assert full_row(results).accuracy.clusters == 6
    assert results.macro["letter"].value == 1.0


def test_an_empty_reply_scores_nothing_even_where_a_is_always_right(tmp_path: Path) -> None:
    silent = FakeAnswerer(say=lambda prompt: "")
    row = full_row(run(tmp_path, silent, FakeTask(gold="A"), scores=("generate",)), "generate")
    assert (row.accuracy.value, row.unparsed, row.majority) == (0.0, 12, 1.0)


def test_a_random_letter_lies_within_its_interval_of_chance(tmp_path: Path) -> None:
    row = full_row(run(tmp_path, task=FakeTask(num=800), modalities=("all",)))
    assert row.accuracy.low is not None
    assert row.accuracy.high is not None
    assert row.accuracy.low <= 0.25 <= row.accuracy.high


def test_a_journal_cut_at_every_byte_goes_on_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.fsync", lambda descriptor: None)  # a thousand waits for the disk
    task = FakeTask(num=1)
    asking = Run(
        spec=task.spec,
        answerer=FakeAnswerer(),
        options=options(tmp_path, modalities=("all", "none"), batch_size=1),
    )
    journal, merged = tmp_path / "journal/fake_common.rank0.jsonl", tmp_path / "merged"

    def resume() -> bytes:
        keys = run_task(task, asking, Share())
        write_merged(merged, collect(keys, tmp_path, task.spec.name) or [])
        return merged.read_bytes()

    whole = resume()
    written = journal.read_bytes()
    assert written.count(b"\n") == 2
    for length in range(len(written)):
        journal.write_bytes(written[:length])
        assert resume() == whole
        assert journal.read_bytes() == written


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_any_number_of_workers_gives_the_same_bytes(tmp_path: Path, workers: int) -> None:
    task = FakeTask(num=3 * SHARD_SAMPLES + 5)
    run(tmp_path / "one", task=task)
    ended = [
        ask(
            FakeAnswerer(),
            [task],
            options(tmp_path / "many"),
            (MODEL, Share(rank=rank, world_size=workers)),
        )
        for rank in reversed(range(workers))
    ]
    assert [results is None for results in ended] == [True] * (workers - 1) + [False]
    for name in (MERGED, "results.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "many" / name).read_bytes()


def test_more_workers_go_on_with_what_fewer_began(tmp_path: Path) -> None:
    task = FakeTask(num=3 * SHARD_SAMPLES)
    two = [Share(rank=r, world_size=2) for r in range(2)]
    assert ask(FakeAnswerer(), [task], options(tmp_path), (MODEL, two[1])) is None
    answerer = FakeAnswerer()
    assert ask(answerer, [task], options(tmp_path), (MODEL, Share())) is not None
    assert sum(answerer.forwarded) == 2 * SHARD_SAMPLES * 5


def test_nothing_is_asked_twice_and_media_are_encoded_once(tmp_path: Path) -> None:
    first, again = FakeAnswerer(), FakeAnswerer()
    run(tmp_path, first)
    assert sum(first.forwarded) == 12 * 5
    assert len(first.encoded) == 24
    run(tmp_path, again)
    assert again.forwarded == []


def test_another_export_at_the_same_path_misses_the_cache(tmp_path: Path) -> None:
    run(tmp_path, FakeAnswerer(digest="first"))
    second = FakeAnswerer(say=right, digest="second")
    assert full_row(run(tmp_path, second)).accuracy.value == 1.0
    assert sum(second.forwarded) == 12 * 5
    back = FakeAnswerer(digest="first")
    assert full_row(run(tmp_path, back)).accuracy.value != 1.0
    assert back.forwarded == []


def test_more_generated_tokens_or_another_dtype_are_other_answers(tmp_path: Path) -> None:
    run(tmp_path, scores=("generate",))
    longer = FakeTask(spec=replace(FakeTask().spec, max_new_tokens=99))
    for answerer, task in ((FakeAnswerer(dtype="bfloat16"), FakeTask()), (FakeAnswerer(), longer)):
        run(tmp_path, answerer, task, scores=("generate",))
        assert sum(answerer.forwarded) == 12 * 5


def test_results_are_computed_from_the_samples_alone(tmp_path: Path) -> None:
    run(tmp_path, scores=("letter", "generate"))
    before = (tmp_path / "results.json").read_bytes()
    (tmp_path / "results.json").unlink()
    score(tmp_path)
    assert (tmp_path / "results.json").read_bytes() == before
    assert Results.model_validate_json(before).schema_version == 3
    (tmp_path / "run.json").unlink()
    assert score(tmp_path).tasks == Results.model_validate_json(before).tasks


def test_unreadable_media_are_errors_counted_reported_and_tried_again(tmp_path: Path) -> None:
    broken = FakeTask(missing=(3,))
    with pytest.raises(EvaluationError, match="3 questions could not be asked"):
        run(tmp_path, FakeAnswerer(say=right), broken)
    allowed = run(tmp_path, FakeAnswerer(say=right), broken, allow_errors=3)
    row = full_row(allowed)
    assert (row.n, row.errors, row.accuracy.value) == (11, 1, 1.0)
    assert allowed.macro == {}
    failed = [line for line in read_lines(tmp_path / MERGED) if line.error]
    assert {(line.id, line.correct) for line in failed} == {("q0003", None)}
    assert "audio3.bin" in str(failed[0].error)
    answerer = FakeAnswerer(say=right)
    mended = run(tmp_path, answerer, FakeTask())
    assert (full_row(mended).n, full_row(mended).errors) == (12, 0)


def test_the_official_reading_is_a_score_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = FakeTask(spec=replace(FakeTask().spec, official="first_character"))
    monkeypatch.setitem(TASKS, task.spec.name, task)
    wordy = FakeAnswerer(say=lambda prompt: f"The answer is {right(prompt)}")
    results = run(tmp_path, wordy, task, scores=("generate",))
    assert full_row(results, "generate").accuracy.value == 1.0
    assert full_row(results, "official").accuracy.value == 0.0
    assert full_row(results, "official").unparsed == 12
    assert {entry.score for entry in results.tasks["fake/common"].complementarity} == {"generate"}
    assert ">official<" in write_report(tmp_path).read_text(encoding="utf-8")


def test_complementarity_of_a_model_that_needs_both(tmp_path: Path) -> None:
    def needs_both(prompt: Prompt) -> str:
        wrong = LETTERS[(LETTERS.index(right(prompt)) + 1) % 4]
        return right(prompt) if len(prompt.media) == 2 else wrong

    results = run(tmp_path, FakeAnswerer(say=needs_both), FakeTask(num=40))
    (found,) = results.tasks["fake/common"].complementarity
    assert found.shapley is not None
    assert {m: e.value for m, e in found.shapley.items()} == {"image": 0.5, "audio": 0.5}
    assert (found.rescued.value, found.lost.value, found.oracle.value) == (1.0, 0.0, 0.0)
    assert found.synergy["image+audio"].value == 1.0
    assert found.gains["image"].test == "sign-flip"
    assert found.gains["image"].p_holm is not None
    assert found.gains["image"].p_holm >= (found.gains["image"].p_value or 0)
    assert len(found.rescued_ids) == 10


def test_without_every_subset_there_is_no_shapley_value(tmp_path: Path) -> None:
    results = run(tmp_path, modalities=("all", "image", "audio"))
    (found,) = results.tasks["fake/common"].complementarity
    assert found.shapley is None
    assert found.synergy == {}
    assert run(tmp_path / "b", modalities=("all",)).tasks["fake/common"].complementarity == ()


def test_the_limit_is_drawn_by_seed_per_set_of_modalities(tmp_path: Path) -> None:
    def ids(out: str, seed: int) -> set[str]:
        run(tmp_path / out, task=FakeTask(num=50), limit=7, seed=seed)
        return {line.id for line in read_lines(tmp_path / out / MERGED)}

    assert len(ids("a", 0)) == 7
    assert ids("a", 0) == ids("b", 0) != ids("c", 1)


def test_tasks_of_one_run_stay_together_and_of_another_do_not(tmp_path: Path) -> None:
    other = FakeTask(spec=replace(FakeTask().spec, name="fake/other"))
    run(tmp_path)
    assert set(run(tmp_path, task=other).tasks) == {"fake/common", "fake/other"}
    assert set(run(tmp_path, FakeAnswerer(digest="new"), task=other).tasks) == {"fake/other"}


def test_lines_say_what_was_asked(tmp_path: Path) -> None:
    run(tmp_path)
    line = read_lines(tmp_path / MERGED)[1]
    assert (line.id, line.subset, line.question) == (
        "q0000",
        "captions",
        f"[image 0][audio 0]what of 0? right={line.target}",
    )
    shown = read_lines(tmp_path / MERGED)[3]
    assert shown.num_media_tokens == {"image": 2, "audio": 2}
    assert [m.uri for m in shown.media] == ["media/image0.bin", "media/audio0.bin"]
    assert shown.log_likelihoods is not None
    assert json.loads((tmp_path / "run.json").read_text())["model"]["path"] == "some/model"


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    run(tmp_path)
    path = tmp_path / MERGED
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], b'{"key": 1}\n', *lines[2:]]))
    with pytest.raises(EvaluationError, match=r"samples_fake_common.jsonl:2: key: .*expected a"):
        score(tmp_path)
    path.write_bytes(lines[0] + lines[0])
    with pytest.raises(EvaluationError, match="question q0000 occurs twice"):
        score(tmp_path)
    path.write_bytes(b"")
    with pytest.raises(EvaluationError, match="the file is empty"):
        score(tmp_path)
    path.unlink()
    with pytest.raises(EvaluationError, match=r"samples_fake_common\.jsonl is missing"):
        score(tmp_path)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(EvaluationError, match=r"run\.json: Field required"):
        score(tmp_path)


def test_two_writers_of_one_journal_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal" / "fake_common.rank0.jsonl"
    path.parent.mkdir()
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(EvaluationError, match="another process is writing this journal"):
            run(tmp_path)


def test_ids_must_be_unique_and_there_must_be_some(tmp_path: Path) -> None:
    class Twice(FakeTask):
        def samples(self, media_dir: Path, limit: int | None) -> list:  # type: ignore[type-arg]
            return [self._sample(0, media_dir)] * 2

    with pytest.raises(EvaluationError, match="two questions of one id"):
        run(tmp_path, task=Twice())
    with pytest.raises(EvaluationError, match="holds no question"):
        run(tmp_path, task=FakeTask(num=0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scores": ("leter",)}, "--score: found 'leter', expected one of letter, generate"),
        ({"scores": ()}, "--score: nothing is named"),
        ({"dtype": "int8"}, "dtype: found 'int8'"),
        ({"limit": 0}, "--limit: found 0, expected a whole number from 1"),
        ({"batch_size": 0, "seed": -1}, "--batch_size: found 0.*; --seed: found -1"),
        ({"rotations": 0}, "--rotations: found 0, expected 1 or more"),
        ({"allow_errors": -1}, "--allow-errors: found -1"),
        ({"modalities": ("smell",)}, "'smell' is not a set of modalities"),
    ],
)
def test_options_are_checked_before_any_work(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(EvaluationError, match=message):
        options(tmp_path, **changes)


def test_noise_is_noise() -> None:
    assert abs(sum(noise(str(i)) for i in range(2000)) / 2000 - 0.5) < 0.02
