import json
import shutil
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from queue import Queue

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, LlavaForConditionalGeneration

from omnicompose.encoders import make_encoder
from omnicompose.encoders.folder import write_encoder
from omnicompose.errors import TrainingError
from omnicompose.experts.checkpoint import open_checkpoint
from omnicompose.training.encoder_choice import read_all
from omnicompose.zoo import generators, train_base, train_experts
from omnicompose.zoo.capabilities.plan import STAGES as CAPABILITY_STAGES
from omnicompose.zoo.catalog import ZOO, zoo_path
from omnicompose.zoo.lessons import caption_lesson, media_lesson, text_lesson
from omnicompose.zoo.preprocessing import write_preprocessor
from omnicompose.zoo.stages import STAGES, Stage, Workshop, with_needs
from omnicompose.zoo.train import _run_in_order, is_done, main, train_zoo
from omnicompose.zoo.train_encoders import DESCRIPTIONS


def test_every_member_of_the_zoo_has_a_stage() -> None:
    assert ZOO.keys() <= STAGES.keys() | set(CAPABILITY_STAGES)
    assert len({Workshop(out=Path("zoo")).place(name) for name in STAGES}) == len(STAGES)


def test_needs_come_first() -> None:
    names = [stage.name for stage in with_needs(("image-standard",))]
    assert names[-1] == "image-standard"
    made = {"base", "media", "encoder-image", "pool-image", "captioning-image", "image-standard"}
    assert set(names) == made
    seen: set[str] = set()
    for stage in with_needs(tuple(STAGES)):
        assert seen.issuperset(stage.needs)
        seen.add(stage.name)


def test_a_key_follows_settings_needs_and_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    before = STAGES["llava"].key(0)
    assert before == STAGES["llava"].key(0) != STAGES["llava"].key(1)
    monkeypatch.setitem(STAGES, "base", replace(STAGES["base"], settings=("another",)))
    assert STAGES["llava"].key(0) != before


def test_stages_start_when_their_needs_have_ended() -> None:
    started: list[str] = []

    def submit(stage: Stage) -> Future[None]:
        started.append(stage.name)
        future: Future[None] = Future()
        future.set_result(None)
        return future

    news: Queue[tuple[str, int, int]] = Queue()
    news.put(("base", 1, 2))
    told: list[tuple[str, int, int]] = []
    stages = list(reversed(with_needs(("llava",))))
    ended = _run_in_order(stages, submit, news, told.append)
    assert sorted(ended) == sorted(started) == sorted(stage.name for stage in stages)
    for name in started:
        assert all(started.index(need) < started.index(name) for need in STAGES[name].needs)
    assert told == [("base", 1, 2)]


def test_a_failing_stage_ends_the_training() -> None:
    def submit(stage: Stage) -> Future[None]:
        future: Future[None] = Future()
        future.set_exception(TrainingError("no luck"))
        return future

    with pytest.raises(TrainingError, match="no luck"):
        _run_in_order([STAGES["base"]], submit, Queue(), lambda news: None)


def test_what_is_done_is_done_for_one_seed(tmp_path: Path) -> None:
    workshop, stage = Workshop(out=tmp_path), STAGES["media"]
    assert not is_done(workshop, stage)
    record = tmp_path / ".work" / "done" / "media.json"
    record.parent.mkdir(parents=True)
    record.write_text(f'{{"key": "{stage.key(0)}"}}')
    assert not is_done(workshop, stage)  # recorded, but its result is gone
    workshop.place("media").mkdir()
    assert is_done(workshop, stage)
    assert not is_done(replace(workshop, seed=1), stage)


def test_an_unknown_stage_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(TrainingError, match="elephant: the zoo has no such stage"):
        train_zoo(Workshop(out=tmp_path), ["elephant"])
    assert main(["--only", "elephant", "--out", str(tmp_path)]) == 2
    assert "no such stage" in capsys.readouterr().err


def test_lessons_show_one_medium_at_most() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        assert text_lesson(rng, 3).media == ()
        lesson = media_lesson(rng, "audio", mixed=0.5)
        assert [item.modality for item in lesson.media] == ["audio"]
        entries = [e for e in lesson.messages[0]["content"] if e["type"] != "text"]
        assert entries == [{"type": "audio"}]
    (item,) = caption_lesson(rng, "video").media
    assert item.modality == "video"


def test_a_base_of_a_few_steps_is_a_checkpoint_and_repeats_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_base, "NUM_STEPS", 3)
    monkeypatch.setattr(train_base, "BATCH_SIZE", 2)
    told: list[tuple[int, int]] = []
    for name in ("one", "two"):
        workshop = Workshop(out=tmp_path / name)
        STAGES["base"].run(workshop, lambda *news: told.append(news))
    assert told[:3] == [(1, 3), (2, 3), (3, 3)]
    one, two = (tmp_path / name / "base" for name in ("one", "two"))
    assert {path.name for path in one.iterdir()} == {p.name for p in zoo_path("base").iterdir()}
    for path in one.iterdir():
        assert path.read_bytes() == (two / path.name).read_bytes()
    ours, theirs = (json.loads((f / "config.json").read_text()) for f in (one, zoo_path("base")))
    assert ours == theirs
    model = AutoModelForCausalLM.from_pretrained(one)
    assert model.dtype == torch.float16 and model.generation_config.max_new_tokens == 32


def test_an_image_expert_of_a_few_steps_goes_through_the_workshop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Captioning, LLaVA and an expert, from the shipped base and encoder."""
    monkeypatch.setattr(generators, "NUM_TRAINING_MEDIA", 160)
    monkeypatch.setattr(train_experts, "CAPTION_STEPS", {"image": 2})
    monkeypatch.setattr(train_experts, "CAPTION_BATCH_SIZE", 4)
    monkeypatch.setattr(train_experts, "BATCH_SIZE", 4)
    few = {name: replace(regime, steps=2) for name, regime in train_experts.REGIMES.items()}
    monkeypatch.setattr(train_experts, "REGIMES", few)
    workshop = Workshop(out=tmp_path)
    tmp_path.joinpath(".work").mkdir()
    shutil.copytree(zoo_path("base"), workshop.place("base"))
    _write_shipped_tower(workshop.place("encoder-image"))
    for name in ("pool-image", "captioning-image", "llava", "image-standard"):
        STAGES[name].run(workshop, lambda *_: None)
    for name in ("llava", "image-standard"):
        ours = {path.name for path in workshop.place(name).iterdir()}
        assert ours == {path.name for path in zoo_path(name).iterdir()}
    projector = load_file(workshop.place("captioning-image") / "connector.safetensors")
    llava = LlavaForConditionalGeneration.from_pretrained(workshop.place("llava"))
    weight = llava.model.multi_modal_projector.linear_1.weight
    assert torch.equal(weight, projector["linear_1.weight"].half())


def _write_shipped_tower(folder: Path) -> None:
    """The image encoder, which ships as the vision tower of zoo:llava."""
    module = open_checkpoint("zoo:llava", zoo_path("llava")).encoder("image")
    encoder = make_encoder(DESCRIPTIONS["image"])
    encoder.load_state_dict(read_all(module.weights))
    write_encoder(folder, DESCRIPTIONS["image"], encoder, torch.float16)
    write_preprocessor("image", folder)
