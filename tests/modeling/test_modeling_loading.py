"""Saving and loading: names in memory are names on disk, nothing is missing, nothing is new."""

import json

import pytest
import torch
from safetensors import safe_open
from tiny_composite import EVERYTHING, all_modalities, make_model, tiny_config
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForMultimodalLM,
    GenerationConfig,
    Qwen2Config,
)

from omnicompose.modeling import OmniComposeConfig, suppress_placeholders


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("composite")
    model.save_pretrained(folder)
    return folder


def names_on_disk(folder) -> set[str]:
    names: set[str] = set()
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            names |= set(file.keys())
    return names


def load(folder, auto=AutoModelForMultimodalLM, **options):
    loaded, info = auto.from_pretrained(folder, output_loading_info=True, **options)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert not info["mismatched_keys"] and not info["error_msgs"]
    return loaded.eval()


def same_tensors(one, other) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[n], second[n]) for n in first)


def test_round_trip(model, saved, ask):
    loaded = load(saved)
    assert names_on_disk(saved) == set(model.state_dict())
    assert same_tensors(loaded, model)
    inputs = ask(EVERYTHING)
    # Weights mapped from a file lie at other addresses, which moves CPU kernels in the last bit.
    torch.testing.assert_close(loaded(**inputs).logits, model(**inputs).logits)
    assert torch.equal(loaded(**inputs).logits, load(saved)(**inputs).logits)
    assert isinstance(AutoConfig.from_pretrained(saved), OmniComposeConfig)
    assert loaded.config.modalities == model.config.modalities


def test_names_are_the_contract(model):
    names = set(model.state_dict())
    layer = "model.language_model.layers.1"
    assert {
        "lm_head.weight",
        "model.language_model.embed_tokens.weight",
        f"{layer}.self_attn.q_proj.weight",
        f"{layer}.mlp.down_proj.streams.image.lora_A",
        f"{layer}.mlp.down_proj.streams.image.lora_B",
        f"{layer}.mlp.down_proj.streams.audio.weight",
        "model.image_prefix",
        "model.image_suffix",
        "model.image_connector.linear_1.weight",
    } <= names
    assert any(name.startswith("model.image_encoder.tower.") for name in names)
    assert not any(
        "audio_prefix" in name or "layers.0.mlp.up_proj.streams.audio" in name for name in names
    )


@pytest.mark.parametrize(
    "auto", [AutoModel, AutoModelForCausalLM, AutoModelForImageTextToText], ids=lambda a: a.__name__
)
def test_every_auto_class(saved, model, auto):
    loaded, info = auto.from_pretrained(saved, output_loading_info=True)
    assert not info["missing_keys"]
    base = loaded if auto is AutoModel else loaded.model
    assert same_tensors(base, model.model)


def test_sharded_with_low_memory_and_a_device_map(model, tmp_path):
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 3
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"]) == set(model.state_dict())
    assert same_tensors(load(tmp_path, device_map={"": "cpu"}), model)


def test_saving_again_writes_the_same(saved, tmp_path):
    once, twice = tmp_path / "once", tmp_path / "twice"
    load(saved).save_pretrained(once)
    load(once).save_pretrained(twice)
    assert (saved / "model.safetensors").read_bytes() == (once / "model.safetensors").read_bytes()
    assert (once / "config.json").read_text() == (twice / "config.json").read_text()


def test_dtype(saved, ask):
    loaded = load(saved, dtype=torch.bfloat16)
    assert {p.dtype for p in loaded.parameters()} == {torch.bfloat16}
    assert loaded(**ask(EVERYTHING)).logits.dtype == torch.bfloat16


def test_eager_attention_by_name(saved):
    assert (
        load(saved, attn_implementation="eager").config.text_config._attn_implementation == "eager"
    )


def test_tied_head_is_absent_on_disk(tmp_path, ask):
    model = make_model(tiny_config(tied=True))
    assert model.config.tie_word_embeddings
    assert model.lm_head.weight is model.get_input_embeddings().weight
    model.save_pretrained(tmp_path)
    assert "lm_head.weight" not in names_on_disk(tmp_path)
    loaded = load(tmp_path)
    assert loaded.lm_head.weight is loaded.get_input_embeddings().weight
    assert same_tensors(loaded, model)


def test_another_family(tmp_path, ask):
    text = Qwen2Config(
        vocab_size=300,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=False,
    )
    entries = all_modalities()
    model = make_model(OmniComposeConfig(text_config=text, modalities=entries))
    path = "model.language_model.layers.1.self_attn.q_proj"
    assert f"{path}.streams.audio.bias" in model.state_dict()
    model.save_pretrained(tmp_path)
    loaded = load(tmp_path)
    assert same_tensors(loaded, model)
    inputs = ask(EVERYTHING)
    torch.testing.assert_close(loaded(**inputs).logits, model(**inputs).logits)


def test_unsplittable_classes_of_encoders_are_known(model):
    inner = {"LlamaDecoderLayer", "CLIPEncoderLayer", "WhisperEncoderLayer"}
    assert inner <= set(model._no_split_modules)


def test_embeddings_can_grow(ask):
    model = make_model(tiny_config())
    model.resize_token_embeddings(310)
    assert model.lm_head.weight.shape[0] == model.get_input_embeddings().weight.shape[0] == 310
    assert model(**ask(EVERYTHING)).logits.shape[-1] == 310
    assert model.config.text_config.vocab_size == 310


def test_composer_writes_which_tokens_are_never_said(model):
    generation = GenerationConfig(suppress_tokens=[9])
    suppress_placeholders(model.config, generation)
    assert generation.suppress_tokens == [3, 4, 5, 9]
