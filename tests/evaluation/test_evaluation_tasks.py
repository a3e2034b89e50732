"""The benchmarks that bring their own data: what they declare, and that they ask fairly."""

from collections import Counter
from pathlib import Path

import pytest
from evaluation_fakes import FakeAnswerer

from omnicompose.errors import EvaluationError
from omnicompose.evaluation import TASKS, EvaluationOptions, Share
from omnicompose.evaluation.evaluate import ask
from omnicompose.evaluation.sample import Shown
from omnicompose.evaluation.subsets import Subset, view
from omnicompose.evaluation.tasks import find_tasks
from omnicompose.zoo.questions import make_questions, render_messages

GROUPS = {
    "zoo/mcub": {"image+audio+video", "image+audio", "image+video", "audio+video"},
    "zoo/image": {"image"},
    "zoo/audio": {"audio"},
    "zoo/video": {"video"},
}


def test_every_task_says_what_it_is() -> None:
    assert set(GROUPS) < set(TASKS)
    for name, task in TASKS.items():
        spec = task.spec.to_dict()
        assert spec["name"] == name
        assert all(spec[k] for k in ("summary", "location", "licence", "cluster_field", "prompt"))


@pytest.mark.parametrize("name", GROUPS)
def test_questions_are_whole(name: str, tmp_path: Path) -> None:
    samples = TASKS[name].samples(tmp_path, 6)
    assert Counter("+".join(s.modalities) for s in samples) == dict.fromkeys(GROUPS[name], 6)
    for sample in samples:
        assert len(sample.choices) == 4
        assert sample.has_captions
        assert all(medium.path.is_file() for medium in sample.media)
    assert TASKS[name].samples(tmp_path, 6) == samples
    assert [s.id for s in TASKS[name].samples(tmp_path, 2)][:2] == [s.id for s in samples][:2]


def test_the_turn_is_the_one_that_experts_learned_from(tmp_path: Path) -> None:
    sample = TASKS["zoo/mcub"].samples(tmp_path, 1)[0]
    seed = int(sample.id.split("-")[-2])
    question = make_questions("mcub", ("image", "audio", "video"), 1, seed)[0]
    content = [
        {"type": "text", "text": part} if isinstance(part, str) else {"type": part.modality}
        for part in view(sample, Subset(modalities=sample.modalities))
    ]
    assert render_messages(question) == [{"role": "user", "content": content}]
    captions = [part.caption for part in sample.content if isinstance(part, Shown)]
    told = render_messages(question, shown=(), stand_in="captions")[0]["content"]
    assert [entry["text"] for entry in told[:-1]] == captions  # type: ignore[index]


@pytest.mark.parametrize("name", GROUPS)
def test_a_silent_model_scores_nothing(name: str, tmp_path: Path) -> None:
    options = EvaluationOptions(out_dir=tmp_path, scores=("generate",), limit=5)
    silent = FakeAnswerer(say=lambda prompt: "")
    results = ask(silent, [TASKS[name]], options, (Path("silent"), Share()))
    assert results is not None
    assert {row.accuracy.value for row in results.tasks[name].rows} == {0.0}
    official = any(row.score == "official" for row in results.tasks[name].rows)
    assert official == (TASKS[name].spec.official is not None)


def test_a_random_letter_is_at_chance_on_every_task_that_ships(tmp_path: Path) -> None:
    options = EvaluationOptions(out_dir=tmp_path, limit=150)
    tasks = [TASKS[name] for name in GROUPS]
    results = ask(FakeAnswerer(), tasks, options, (Path("random"), Share()))
    assert results is not None
    for name in GROUPS:
        for row in results.tasks[name].rows:
            assert row.accuracy.low is not None
            assert row.accuracy.high is not None
            width = row.accuracy.high - row.accuracy.low  # 95 % of one row, seven rows here
            assert row.accuracy.low - width / 2 <= 0.25 <= row.accuracy.high + width / 2, name


def test_unknown_tasks_are_refused_with_near_names() -> None:
    with pytest.raises(EvaluationError, match=r"'zoo/mcup' is no task\. Did you mean 'zoo/mcub'"):
        find_tasks(["zoo/mcup"])
    with pytest.raises(EvaluationError, match="nothing is named"):
        find_tasks([])
    assert [t.spec.name for t in find_tasks(["zoo/audio", "zoo/audio"])] == ["zoo/audio"]
