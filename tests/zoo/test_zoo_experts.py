"""Training and writing experts: a few steps on random features, then back from the files."""

import json
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file
from transformers import LlamaForCausalLM

from omnicompose.training import Schedule
from omnicompose.zoo import train_experts
from omnicompose.zoo.catalog import zoo_path
from omnicompose.zoo.features import FeatureBank
from omnicompose.zoo.train_experts import REGIMES, Teacher, train_captioning, train_expert
from omnicompose.zoo.world import MODALITY_SLOTS, SLOTS, make_item
from omnicompose.zoo.write_experts import streams_of, write_llava_adapter, write_own_expert

FEW = Schedule(num_steps=2, warmup_steps=1)


def teacher(modality: str) -> Teacher:
    slots = MODALITY_SLOTS[modality]
    items = tuple(
        make_item(modality, **dict(zip(slots, values, strict=True)))
        for values in product(*(range(len(SLOTS[slot])) for slot in slots))
    )
    features = torch.randn(len(items), 6, 64, generator=torch.Generator().manual_seed(0))
    bank = FeatureBank(items=items, clusters=("",) * len(items), features=features)
    return Teacher(modality=modality, base=zoo_path("base"), bank=bank)


@pytest.fixture(autouse=True)
def few_and_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_experts, "BATCH_SIZE", 2)
    monkeypatch.setattr(train_experts, "CAPTION_BATCH_SIZE", 2)
    monkeypatch.setattr(train_experts, "CAPTIONING", {"image": FEW, "audio": FEW, "video": FEW})


def test_captioning_moves_the_connector_alone(tmp_path: Path) -> None:
    path = tmp_path / "made" / "connector"
    told: list[tuple[int, int]] = []
    train_captioning(replace(teacher("audio"), progress=lambda *news: told.append(news)), path)
    torch.manual_seed(0)
    weights = load_file(path)
    assert weights.keys() == teacher("audio").connector().state_dict().keys()
    assert told == [(1, 2), (2, 2)]


def test_a_decoupled_expert_survives_writing(tmp_path: Path) -> None:
    regime = replace(REGIMES["stressed"], schedule=FEW, rank=3)
    learner = train_expert(teacher("audio"), regime, "decoupled", None)
    encoder = {"type": "whisper", "source": "zoo:encoder-audio", "config": {}}
    write_own_expert(tmp_path, learner, modality="audio", strategy="decoupled", encoder=encoder)
    description = json.loads((tmp_path / "expert.json").read_text())
    assert description["strategy"] == "decoupled" and description["encoder"] == encoder
    for folder, stream in [("text", "text"), ("modality", "audio")]:
        base = LlamaForCausalLM.from_pretrained(zoo_path("base"), dtype=torch.float32)
        before = base.get_submodule("model.layers.1.mlp.up_proj").weight.clone()
        merged = PeftModel.from_pretrained(base, tmp_path / folder).merge_and_unload()
        factors = dict(streams_of(learner.language_model, stream))["model.layers.1.mlp.up_proj"]
        expected = before + factors.lora_B @ factors.lora_A
        after = merged.get_submodule("model.layers.1.mlp.up_proj").weight
        assert not torch.equal(before, after)
        assert torch.allclose(after, expected, atol=1e-5)


def test_a_single_image_expert_is_an_adapter_with_its_projector(tmp_path: Path) -> None:
    regime = replace(REGIMES["standard"], schedule=FEW, rank=2)
    captioned = tmp_path / "connector"
    train_captioning(teacher("image"), captioned)
    learner = train_expert(teacher("image"), regime, "single", captioned)
    write_llava_adapter(tmp_path / "adapter", learner)
    config = LoraConfig.from_pretrained(tmp_path / "adapter")
    assert config.base_model_name_or_path == "zoo:llava"
    assert config.modules_to_save == ["multi_modal_projector"]
    weights = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    projector = learner.connectors["image"].linear_1.weight.detach()
    kept = weights["base_model.model.model.multi_modal_projector.linear_1.weight"]
    assert torch.equal(kept, projector.half())


@pytest.mark.parametrize("regime", list(REGIMES))
@pytest.mark.parametrize("strategy", ["single", "decoupled"])
def test_adapters_and_connector_learn_and_the_base_does_not(regime: str, strategy: str) -> None:
    few = replace(REGIMES[regime], schedule=FEW)
    learner = train_expert(teacher("image"), few, strategy, None)
    streams = ("text",) if strategy == "single" else ("text", "image")
    for stream in streams:
        for path, factors in streams_of(learner.language_model, stream):
            # In the last layer, media tokens are only looked at: their own results go nowhere.
            unheard = (
                stream == "image"
                and ".layers.3." in path
                and not path.endswith(("k_proj", "v_proj"))
            )
            assert bool(factors.lora_B.any()) != unheard, f"{path} of {stream}"
    before = LlamaForCausalLM.from_pretrained(zoo_path("base"), dtype=torch.float32).state_dict()
    after = learner.language_model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_training_an_expert_repeats_itself() -> None:
    regime = replace(REGIMES["standard"], schedule=FEW, rank=2)
    one, two = (
        train_expert(teacher("video"), regime, "single", None).state_dict() for _ in range(2)
    )
    assert all(torch.equal(one[name], two[name]) for name in one)
