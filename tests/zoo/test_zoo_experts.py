"""The zoo's experts: configurations of `omnicompose train`, and the forms in which they ship."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file
from transformers import LlamaForCausalLM, LlavaForConditionalGeneration

from omnicompose.errors import MediaError, TrainingError
from omnicompose.media import check_media
from omnicompose.modalities import MODALITIES
from omnicompose.training.config import TrainConfig
from omnicompose.training.records import read_records
from omnicompose.training.train import TrainOptions, train
from omnicompose.zoo import generators
from omnicompose.zoo.catalog import zoo_path
from omnicompose.zoo.generators import GENERATORS
from omnicompose.zoo.lessons import caption_lesson
from omnicompose.zoo.records import MediaPool, write_records
from omnicompose.zoo.train_experts import (
    CONNECTORS,
    REGIMES,
    Strategy,
    answering_stage,
    captioning_stage,
    expert_config,
    regime_for,
)
from omnicompose.zoo.world import MODALITY_SLOTS
from omnicompose.zoo.write_experts import ship_expert, ship_llava_adapter

PLACES = {
    "image": {"base": "zoo:base", "encoder": "zoo:llava"},
    "audio": {"base": "zoo:base", "encoder": "zoo:encoder-audio"},
    "video": {"base": "zoo:base", "encoder": "zoo:encoder-video"},
}


@pytest.fixture(autouse=True)
def few_media(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generators, "NUM_TRAINING_MEDIA", 160)


def trained(folder: Path, modality: str, strategy: Strategy) -> Path:
    """An expert of two steps on the zoo's own lessons."""
    stage = answering_stage(REGIMES["stressed"], strategy)
    few = {"data": {"generator": "questions", "count": 8}, "steps": 2, "batch_size": 4}
    config = expert_config(modality, [{**stage, **few}], PLACES[modality])
    asked = TrainConfig.model_validate(config)
    train(asked, folder / "trained", TrainOptions(device="cpu"), generators=GENERATORS)
    return folder / "trained"


@pytest.mark.parametrize("modality", MODALITY_SLOTS)
def test_every_expert_has_a_configuration(modality: str) -> None:
    for regime in REGIMES:
        stages = [
            captioning_stage(modality),
            answering_stage(regime_for(regime, modality), "single"),
        ]
        config = TrainConfig.model_validate(expert_config(modality, stages, PLACES[modality]))
        assert config.connector.config == CONNECTORS[modality]["config"]
        for stage in config.stages:
            assert stage.data.count == (stage.steps or 0) * stage.batch_size


@pytest.mark.parametrize("modality", ["image", "audio"])
def test_a_pool_of_media_is_made_once_and_shows_what_it_says(tmp_path: Path, modality: str) -> None:
    pool = MediaPool.make(modality, tmp_path / "media", count=160, seed=0)
    times = [pool.path(place).stat().st_mtime_ns for place in range(160)]
    again = MediaPool.make(modality, tmp_path / "media", count=160, seed=0)
    assert again.items == pool.items
    assert times == [again.path(place).stat().st_mtime_ns for place in range(160)]
    check_media(pool.path(0), modality)
    lesson = caption_lesson(np.random.default_rng(0), modality)
    chosen = pool.choose(lesson.media[0], np.random.default_rng(0))
    assert pool.items[int(chosen.stem)] == lesson.media[0]


def test_a_pool_of_another_seed_or_cut_off_is_made_anew(tmp_path: Path) -> None:
    first = MediaPool.make("image", tmp_path / "media", count=8, seed=0)
    other = MediaPool.make("image", tmp_path / "media", count=8, seed=1)
    assert other.items != first.items
    pictures = [other.path(place).read_bytes() for place in range(8)]
    again = MediaPool.make("image", tmp_path / "media", count=8, seed=0)
    assert again.items == first.items
    assert pictures != [again.path(place).read_bytes() for place in range(8)]
    (tmp_path / "media" / "index.json").write_text("[]")  # as an earlier version wrote it
    assert MediaPool.make("image", tmp_path / "media", count=8, seed=0).items == first.items


def test_a_pool_that_lacks_an_item(tmp_path: Path) -> None:
    pool = MediaPool.make("image", tmp_path / "media", count=1, seed=0)
    (lesson,) = (
        lesson
        for lesson in [caption_lesson(np.random.default_rng(3), "image")]
        if lesson.media[0] != pool.items[0]
    )
    with pytest.raises(MediaError, match=r"no medium shows .* Make more media"):
        write_records(tmp_path / "a.jsonl", [lesson], pool, np.random.default_rng(0))


@pytest.mark.parametrize("name", list(GENERATORS))
def test_generated_records_are_good_and_the_same_again(tmp_path: Path, name: str) -> None:
    stage = {**captioning_stage("image"), "data": {"generator": name, "count": 20}}
    config = TrainConfig.model_validate(expert_config("image", [stage], PLACES["image"]))
    path = GENERATORS[name](config, config.stages[0], tmp_path / "data-1")
    text = path.read_text()
    assert len(read_records([path], ["image"])) == 20
    assert GENERATORS[name](config, config.stages[0], tmp_path / "data-1").read_text() == text
    assert ("media/" in text) == (name != "text")


def test_a_decoupled_expert_ships_with_the_zoos_names(tmp_path: Path) -> None:
    source = trained(tmp_path, "audio", "decoupled")
    ship_expert(source, tmp_path / "shipped", "encoder-audio")
    description = json.loads((tmp_path / "shipped" / "expert.json").read_text())
    shipped = json.loads((zoo_path("audio-stressed-decoupled") / "expert.json").read_text())
    assert description == shipped
    assert not (tmp_path / "shipped" / "training").exists()
    for folder in ("text", "modality"):
        config = LoraConfig.from_pretrained(tmp_path / "shipped" / folder)
        assert config.base_model_name_or_path == "zoo:base"
        base = LlamaForCausalLM.from_pretrained(zoo_path("base"), dtype=torch.float32)
        before = base.get_submodule("model.layers.1.mlp.up_proj").weight.clone()
        merged = PeftModel.from_pretrained(base, tmp_path / "shipped" / folder).merge_and_unload()
        assert not torch.equal(merged.get_submodule("model.layers.1.mlp.up_proj").weight, before)


def test_a_single_image_expert_ships_as_an_adapter_with_its_projector(tmp_path: Path) -> None:
    source = trained(tmp_path, "image", "single")
    ship_llava_adapter(source, tmp_path / "shipped")
    names = {path.name for path in (tmp_path / "shipped").iterdir()}
    assert names == {path.name for path in zoo_path("image-stressed").iterdir()}
    ours, theirs = (
        json.loads((folder / "adapter_config.json").read_text())
        for folder in (tmp_path / "shipped", zoo_path("image-stressed"))
    )
    assert ours == theirs
    weights = load_file(tmp_path / "shipped" / "adapter_model.safetensors")
    assert (
        weights.keys() == load_file(zoo_path("image-stressed") / "adapter_model.safetensors").keys()
    )
    host = LlavaForConditionalGeneration.from_pretrained(zoo_path("llava"), dtype=torch.float32)
    merged = PeftModel.from_pretrained(host, tmp_path / "shipped").merge_and_unload()
    projector = load_file(source / "connector.safetensors")["linear_1.weight"]
    assert torch.equal(merged.model.multi_modal_projector.linear_1.weight, projector.float())


def test_lessons_of_a_modality_that_the_zoo_lacks(tmp_path: Path) -> None:
    assert set(MODALITIES) > set(MODALITY_SLOTS)
    stage = {**captioning_stage("audio"), "data": {"generator": "captions", "count": 2}}
    config = TrainConfig.model_validate(expert_config("audio", [stage], PLACES["audio"]))
    other = config.model_copy(update={"modality": "point"})
    with pytest.raises(TrainingError, match="no lessons about 'point'"):
        GENERATORS["captions"](other, other.stages[0], tmp_path)
