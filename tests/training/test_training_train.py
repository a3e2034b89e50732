"""From a configuration to a folder that `inspect`, `compose`, peft and transformers understand."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from peft import PeftModel
from safetensors.torch import load_file
from training_tiny import host, new_expert, stage, write_lessons
from transformers import AutoModelForCausalLM, AutoProcessor, LlavaForConditionalGeneration

from omnicompose.composer import compose
from omnicompose.errors import ExportError, TrainingError
from omnicompose.inspection import inspect_source
from omnicompose.modeling import OmniComposeForConditionalGeneration
from omnicompose.training.config import TrainConfig
from omnicompose.training.new_expert import build_new_expert
from omnicompose.training.train import TrainOptions, train
from omnicompose.zoo.catalog import zoo_path

ON_CPU = TrainOptions(device="cpu")


def composed(folder: Path, modality: str, expert: Path) -> OmniComposeForConditionalGeneration:
    recipe = folder / "recipe.yaml"
    experts = {modality: {"source": str(expert)}}
    content = {"base": "zoo:base", "experts": experts, "dtype": "float32"}
    recipe.write_text(
        yaml.safe_dump({**content, "modality": "exact", "text": {"method": "linear"}})
    )
    compose(recipe, folder / "composed")
    return OmniComposeForConditionalGeneration.from_pretrained(folder / "composed")


@pytest.mark.parametrize("strategy", ["connector", "lora", "decoupled", "full"])
def test_a_new_expert_composes(tmp_path: Path, strategy: str) -> None:
    file = write_lessons(tmp_path, "audio")
    more = {"prefix_tokens": 2, "suffix_tokens": 1, "dtype": "float32"}
    config = new_expert(tmp_path, "audio", [stage(strategy, file)], **more)
    out = tmp_path / "expert"
    result = train(config, out, ON_CPU)
    assert (
        result.losses.keys() == {f"1 {strategy}"} and not out.with_name("expert.partial").exists()
    )
    assert inspect_source(str(out)).kind == "expert"
    assert sorted(path.name for path in (out / "training").iterdir()) == [
        "loss.csv",
        "loss.png",
        "training.json",
    ]
    assert len((out / "training" / "loss.csv").read_text().splitlines()) == 3
    model = composed(tmp_path, "audio", out)
    connector = load_file(out / "connector.safetensors")
    assert connector["prefix"].any() and connector["prefix"].shape == (2, 128)
    for name, weight in model.model.audio_connector.state_dict().items():
        assert torch.equal(weight, connector[name])
    moved = not torch.equal(
        model.model.language_model.layers[0].mlp.up_proj.weight,
        load_file(zoo_path("base") / "model.safetensors")[
            "model.layers.0.mlp.up_proj.weight"
        ].float(),
    )
    assert moved == (strategy != "connector")


def test_a_batch_without_media_teaches_a_connector_nothing(tmp_path: Path) -> None:
    file = write_lessons(tmp_path, None, 4)
    config = new_expert(tmp_path, "audio", [stage("connector", file)], dtype="float32")
    train(config, tmp_path / "expert", ON_CPU)
    fresh = build_new_expert(config).model.model.audio_connector.state_dict()
    after = load_file(tmp_path / "expert" / "connector.safetensors")
    assert all(torch.equal(after[name], fresh[name]) for name in fresh)


def test_what_is_composed_is_what_was_trained(tmp_path: Path) -> None:
    """A decoupled expert alone, composed, gives the logits that it gave in training."""
    file = write_lessons(tmp_path, "audio", 4)
    config = new_expert(tmp_path, "audio", [stage("decoupled", file)], dtype="float32")
    train(config, tmp_path / "expert", ON_CPU)
    model = composed(tmp_path, "audio", tmp_path / "expert").eval()
    processor = AutoProcessor.from_pretrained(tmp_path / "composed")
    record = json.loads(file.read_text().splitlines()[1])
    inputs = processor.apply_chat_template(
        _with_absolute_paths(record["messages"], tmp_path),
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    base = AutoModelForCausalLM.from_pretrained(zoo_path("base"), dtype=torch.float32)
    text = PeftModel.from_pretrained(base, tmp_path / "expert" / "text").eval()
    words = inputs["input_ids"][:, :3]  # before the sound, text uses the text adapter alone
    with torch.no_grad():
        ours = model(**inputs).logits[:, :3, : base.config.vocab_size]
        assert torch.allclose(ours, text(words).logits, atol=1e-4)


def _with_absolute_paths(messages: list[dict], folder: Path) -> list[dict]:
    for message in messages:
        if isinstance(message["content"], list):
            for item in message["content"]:
                if "path" in item:
                    item["path"] = str(folder / item["path"])
    return messages


def test_an_adapter_on_a_checkpoint_is_pefts_own(tmp_path: Path) -> None:
    file = write_lessons(tmp_path, "image")
    train(host(tmp_path, [stage("lora", file)], dtype="float32"), tmp_path / "adapter", ON_CPU)
    plain = LlavaForConditionalGeneration.from_pretrained(zoo_path("llava"), dtype=torch.float32)
    before = plain.model.multi_modal_projector.linear_1.weight.detach().clone()
    model = PeftModel.from_pretrained(plain, tmp_path / "adapter")
    weights = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert any(weight.any() for name, weight in weights.items() if "lora_B" in name)
    merged = model.merge_and_unload()
    assert not torch.equal(merged.model.multi_modal_projector.linear_1.weight, before)
    described = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert described["base_model_name_or_path"] == "zoo:llava"
    assert described["modules_to_save"] == ["multi_modal_projector"]
    composed(tmp_path, "image", tmp_path / "adapter")


def test_a_frozen_connector_is_not_saved_again(tmp_path: Path) -> None:
    file = write_lessons(tmp_path, "image", 4)
    config = host(tmp_path, [stage("lora", file, connector_learning_rate=0)])
    train(config, tmp_path / "adapter", ON_CPU)
    names = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert names and all(".lora_" in name for name in names)


@pytest.mark.parametrize("strategy", ["connector", "full"])
def test_a_whole_checkpoint_loads_again(tmp_path: Path, strategy: str) -> None:
    file = write_lessons(tmp_path, "image")
    train(host(tmp_path, [stage(strategy, file)], dtype="float32"), tmp_path / "model", ON_CPU)
    model = LlavaForConditionalGeneration.from_pretrained(tmp_path / "model")
    AutoProcessor.from_pretrained(tmp_path / "model")
    before = LlavaForConditionalGeneration.from_pretrained(zoo_path("llava"), dtype=torch.float32)
    changed = {
        name
        for name, weight in model.state_dict().items()
        if not torch.equal(weight, before.state_dict()[name])
    }
    assert any("multi_modal_projector" in name for name in changed)
    assert not any("vision_tower" in name for name in changed)
    assert any("language_model" in name for name in changed) == (strategy == "full")


def test_a_composite_is_trained_as_it_is(tmp_path: Path) -> None:
    recipe = tmp_path / "base.yaml"
    recipe.write_text("base: zoo:base\nexperts: {audio: {source: zoo:audio-standard}}\n")
    compose(recipe, tmp_path / "composite")
    file = write_lessons(tmp_path, "audio", 4)
    base = str(tmp_path / "composite")
    train(host(tmp_path, [stage("lora", file)], base), tmp_path / "adapter", ON_CPU)
    model = OmniComposeForConditionalGeneration.from_pretrained(base, dtype=torch.float32)
    adapted = PeftModel.from_pretrained(model, tmp_path / "adapter")
    names = [name for name, p in adapted.named_parameters() if "lora_B" in name and p.any()]
    assert names and all("language_model" in name for name in names)


def test_a_language_model_learns_from_text(tmp_path: Path) -> None:
    file = write_lessons(tmp_path, None, 4)
    train(host(tmp_path, [stage("full", file)], "zoo:base"), tmp_path / "model", ON_CPU)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert model.dtype == torch.float16 and model.generation_config.max_new_tokens == 32


def test_an_encoder_that_learns_goes_with_the_expert(tmp_path: Path) -> None:
    file = write_lessons(tmp_path, "audio", 4)
    config = new_expert(tmp_path, "audio", [stage("lora", file, encoder_learning_rate=1e-3)])
    train(config, tmp_path / "expert", ON_CPU)
    ours = load_file(tmp_path / "expert" / "encoder" / "model.safetensors")
    theirs = load_file(zoo_path("encoder-audio") / "model.safetensors")
    assert ours.keys() == theirs.keys()
    assert any(not torch.equal(ours[name], theirs[name]) for name in ours)
    composed(tmp_path, "audio", tmp_path / "expert")


@pytest.mark.parametrize(
    "more",
    [
        {"precision": "bfloat16"},
        {"gradient_checkpointing": True},
        {"attention": "sdpa"},
    ],
    ids=str,
)
def test_arithmetic_can_be_chosen(tmp_path: Path, more: dict[str, object]) -> None:
    file = write_lessons(tmp_path, "audio", 4)
    config = new_expert(tmp_path, "audio", [stage("lora", file, accumulate=2)], **more)
    result = train(config, tmp_path / "expert", ON_CPU)
    assert 0 < result.losses["1 lora"] < 20


def test_training_lowers_the_loss_and_repeats_itself(tmp_path: Path) -> None:
    file = write_lessons(tmp_path, "image", 8)
    stages = [stage("connector", file), stage("lora", file, steps=15)]
    config = new_expert(tmp_path, "image", stages)
    told: list[tuple[str, int]] = []
    results = [
        train(config, tmp_path / name, ON_CPU, lambda *news: told.append(news[:2]))
        for name in ("one", "two")
    ]
    assert results[0].losses == results[1].losses
    assert results[0].losses["2 lora"] < 0.7 * results[0].losses["1 connector"]
    assert told[:3] == [("1 connector", 1), ("1 connector", 2), ("2 lora", 1)]
    for path in (tmp_path / "one").rglob("*.*"):
        twin = tmp_path / "two" / path.relative_to(tmp_path / "one")
        assert path.read_bytes() == twin.read_bytes(), path


def test_stages_are_not_spread_over_processes_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    file = write_lessons(tmp_path, None, 2)
    config = host(tmp_path, [stage("full", file), stage("full", file)], "zoo:base")
    with pytest.raises(TrainingError, match=r"stages: found 2, .* Train them one by one"):
        train(config, tmp_path / "out", ON_CPU)


def test_mistakes_show_before_anything_is_trained(tmp_path: Path) -> None:
    file = write_lessons(tmp_path, "audio", 4)
    good = new_expert(tmp_path, "audio", [stage("lora", file)])

    def refused(config: TrainConfig, message: str) -> None:
        with pytest.raises(TrainingError, match=message):
            train(config, tmp_path / "out", ON_CPU)

    file.write_text(file.read_text() + "{\n")
    refused(good, r"audio\.jsonl:5: not JSON")
    text = write_lessons(tmp_path, None, 2)
    refused(new_expert(tmp_path, "audio", [stage("lora", text, lora={"roles": ["qkv"]})]), "qkv")
    connector = {"type": "mlp", "config": {"input_size": 3}}
    refused(
        new_expert(tmp_path, "audio", [stage("lora", text)], connector=connector),
        "connector.config.input_size: found 3, but the encoder gives 64",
    )
    refused(new_expert(tmp_path, "audio", [stage("lora", text)], base="zoo:llava"), "Leave out")
    refused(host(tmp_path, [stage("connector", text)], "zoo:base"), "nothing learns")
    refused(host(tmp_path, [stage("lora", text)], "zoo:llava+zoo:image-standard"), "Merge the")
    silent = tmp_path / "silent"
    shutil.copytree(zoo_path("base"), silent)
    (silent / "chat_template.jinja").unlink()
    refused(host(tmp_path, [stage("full", text)], str(silent)), "has no chat template")
    lessons = {"generator": "lectures", "count": 2}
    refused(new_expert(tmp_path, "audio", [stage("lora", text, data=lessons)]), "'lectures'")
    (tmp_path / "there").mkdir()
    with pytest.raises(ExportError, match="exists already"):
        train(good, tmp_path / "there", ON_CPU)
