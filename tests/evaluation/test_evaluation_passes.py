"""One pass for both scores, workers that end in any order, and rescue by chance."""

from dataclasses import replace
from pathlib import Path

from evaluation_fakes import FakeAnswerer, FakeTask
from test_evaluation_runner import MERGED, MODEL, options, right, run

from omnicompose.evaluation import Share, write_report
from omnicompose.evaluation.answerer import Prompt
from omnicompose.evaluation.evaluate import ask
from omnicompose.evaluation.runner import SHARD_SAMPLES
from omnicompose.evaluation.sample import LETTERS


def test_somebody_writes_the_results_though_nobody_is_last_with_every_task(tmp_path: Path) -> None:
    """One worker is last with the first task, the other with the second."""
    other = replace(FakeTask().spec, name="fake/other")
    tasks = [FakeTask(num=2 * SHARD_SAMPLES), FakeTask(num=2 * SHARD_SAMPLES, spec=other)]
    shares = [Share(rank=rank, world_size=2) for rank in range(2)]
    ended = []

    class Slow(FakeTask):
        """Its questions come when the other worker has done everything."""

        def samples(self, media_dir: Path, limit: int | None) -> list:  # type: ignore[type-arg]
            ended.append(ask(FakeAnswerer(), tasks, options(tmp_path), (MODEL, shares[1])))
            return super().samples(media_dir, limit)

    waiting = [tasks[0], Slow(num=2 * SHARD_SAMPLES, spec=other)]
    ended.append(ask(FakeAnswerer(), waiting, options(tmp_path), (MODEL, shares[0])))
    assert [results is None for results in ended] == [True, False]
    assert ended[1] is not None
    assert set(ended[1].tasks) == {"fake/common", "fake/other"}


def test_rescue_by_chance_is_taken_off(tmp_path: Path) -> None:
    """A model that is right with any two media rescues as much with a stranger's."""

    def wrong(prompt: Prompt) -> str:
        return LETTERS[(LETTERS.index(right(prompt)) + 1) % 4]

    def needs_any_two(prompt: Prompt) -> str:
        return right(prompt) if len(prompt.media) == 2 else wrong(prompt)

    asked = {"modalities": ("subsets", "swapped")}
    results = run(tmp_path / "any", FakeAnswerer(say=needs_any_two), FakeTask(num=40), **asked)
    (found,) = results.tasks["fake/common"].complementarity
    assert found.rescued_swapped is not None
    assert found.rescued_beyond is not None
    assert (found.rescued.value, found.rescued_swapped.value) == (1.0, 1.0)
    assert found.rescued_beyond.value == 0.0

    def needs_its_own(prompt: Prompt) -> str:
        own = len({medium.path.stem.strip("imageudo") for medium in prompt.media}) == 1
        return needs_any_two(prompt) if own else wrong(prompt)

    results = run(tmp_path / "own", FakeAnswerer(say=needs_its_own), FakeTask(num=40), **asked)
    (found,) = results.tasks["fake/common"].complementarity
    assert found.rescued_beyond is not None
    assert found.rescued_beyond.value == 1.0
    page = write_report(tmp_path / "own").read_text(encoding="utf-8")
    assert "with one medium exchanged 0.0 %; beyond that +100.0 points" in page
    plain = run(tmp_path / "plain", FakeAnswerer(say=needs_its_own), FakeTask(num=40))
    assert plain.tasks["fake/common"].complementarity[0].rescued_beyond is None
    page = write_report(tmp_path / "plain").read_text(encoding="utf-8")
    assert "chance included: ask with --modalities subsets,swapped" in page


def test_both_scores_come_from_one_pass_and_are_those_of_two(tmp_path: Path) -> None:
    both, letters, replies = FakeAnswerer(), FakeAnswerer(), FakeAnswerer()
    run(tmp_path / "both", both, scores=("letter", "generate"))
    assert sum(both.forwarded) == 12 * 5
    run(tmp_path / "two", letters, scores=("letter",))
    run(tmp_path / "two", replies, scores=("letter", "generate"))
    assert (sum(letters.forwarded), sum(replies.forwarded)) == (12 * 5, 12 * 5)
    assert (tmp_path / "both" / MERGED).read_bytes() == (tmp_path / "two" / MERGED).read_bytes()
