"""Streams of a whole composite under all that transformers, accelerate, peft and torch do."""

import warnings

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_composite import EVERYTHING, MIXED, all_modalities, make_model, tiny_config
from transformers import AutoModelForMultimodalLM

from omnicompose.errors import ModelInputError
from omnicompose.modeling import OmniComposeConfig

MODALITIES = ("image", "audio", "video")
ROLES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
STREAMS = {
    "factored": {"form": "factored", "rank": 2, "roles": ROLES},
    "dense": {"form": "dense", "roles": (*ROLES, "input_layernorm", "norm")},
    "masked": {"form": "masked", "roles": ROLES},
}


def config_of(form: str, text: str = "merged") -> OmniComposeConfig:
    entries = all_modalities()
    for name in MODALITIES:
        entries[name]["stream"] = STREAMS[form]
    return tiny_config(modalities=entries, single_modality_text=text)


@pytest.fixture(scope="module", params=STREAMS)
def model(request):
    return filled(make_model(config_of(request.param)))


def filled(model):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if name.endswith(".mask"):
                tensor.copy_(torch.randint(0, 256, tensor.shape, generator=generator))
            elif name.endswith((".base_weight", "norm.weight")):
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.3)
            elif name.endswith("mask_scale"):
                tensor.fill_(1.5)
    return model


def greedy(model, inputs, **options):
    options = {"max_new_tokens": 5, "do_sample": False, **options}
    return model.generate(**inputs, **options)[:, inputs["input_ids"].shape[1] :]


def test_batches_are_their_rows_by_any_cache(model, ask):
    chats = [MIXED[i] for i in (0, 1, 4)]
    batch = greedy(model, ask(*chats))
    assert torch.equal(greedy(model, ask(*chats), cache_implementation="static"), batch)
    for row, chat in zip(batch, chats, strict=True):
        assert torch.equal(greedy(model, ask(chat), use_cache=False)[0], row)


def test_beams_of_a_batch_are_those_of_single_rows(model, ask):
    batch = greedy(model, ask(MIXED[3], MIXED[6]), num_beams=3)
    for row, chat in zip(batch, (MIXED[3], MIXED[6]), strict=True):
        assert torch.equal(greedy(model, ask(chat), num_beams=3)[0], row)


def test_a_second_picture_in_turn_two_with_the_cache_kept(model, processor, ask):
    first = ask((("image", 1), "what is it"))
    options = {"max_new_tokens": 5, "do_sample": False}
    out = model.generate(**first, **options, return_dict_in_generate=True)
    turns = torch.cat([out.sequences, ask(("and", ("image", 4), "?"))["input_ids"]], 1)
    second = {
        "input_ids": turns,
        "attention_mask": torch.ones_like(turns),
        "mm_token_type_ids": torch.tensor(processor.create_mm_token_type_ids(turns.tolist())),
        "pixel_values": ask((("image", 1), ("image", 4)))["pixel_values"],
    }
    expected = greedy(model, second)
    assert torch.equal(greedy(model, second, past_key_values=out.past_key_values), expected)


def test_saving_and_loading_keeps_every_bit(model, ask, tmp_path):
    model.save_pretrained(tmp_path)
    loaded, info = AutoModelForMultimodalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    ours, theirs = model.state_dict(), loaded.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    inputs = ask(EVERYTHING)
    torch.testing.assert_close(loaded.eval()(**inputs).logits, model(**inputs).logits)


def test_parts_on_the_disk_come_when_they_are_needed(model, ask, tmp_path):
    model.save_pretrained(tmp_path / "saved")
    modules = [f"model.{name}" for name, _ in model.model.named_children()]
    modules += [f"model.language_model.{n}" for n, _ in model.model.language_model.named_children()]
    split = {"model.language_model", "model.language_model.layers"}
    places = dict.fromkeys(["lm_head", *(name for name in modules if name not in split)], "cpu")
    places |= {"model.language_model.layers.0": "cpu", "model.language_model.layers.1": "disk"}
    with warnings.catch_warnings():
        # Prefix and suffix are parameters; accelerate places them, and says they are no modules.
        warnings.filterwarnings("ignore", "The following device_map keys do not match")
        loaded = AutoModelForMultimodalLM.from_pretrained(
            tmp_path / "saved",
            device_map=places | {"model.image_prefix": "cpu", "model.image_suffix": "cpu"},
            offload_folder=tmp_path / "offloaded",
        ).eval()
    assert loaded.model.language_model.layers[1].mlp.up_proj.weight.device.type == "meta"
    inputs = ask(EVERYTHING)
    torch.testing.assert_close(
        loaded(**inputs).logits, model(**inputs).logits, rtol=1e-5, atol=1e-6
    )


def test_a_compiled_forward_gives_the_same(model, ask):
    compiled = torch.compile(model, backend="eager")
    with torch.no_grad():
        for chat in (EVERYTHING, MIXED[1], MIXED[4]):
            inputs = ask(chat)
            torch.testing.assert_close(
                compiled(**inputs).logits, model(**inputs).logits, rtol=1e-4, atol=1e-5
            )
    torch.compiler.reset()


@pytest.mark.parametrize("form", STREAMS)
def test_checkpointed_gradients_are_the_plain_ones(form, ask):
    model = filled(make_model(config_of(form))).train()
    model.model.video_encoder.eval()

    def gradients():
        model.zero_grad()
        inputs = ask(*MIXED[:4])
        model(**inputs, labels=inputs["input_ids"], use_cache=False).loss.backward()
        return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}

    expected = gradients()
    model.activation_checkpointing_enable()
    found = gradients()
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("form", ["dense", "masked"])
def test_an_adapter_runs_on_own_weights_but_is_not_merged_into_them(form, ask):
    model, inputs = filled(make_model(config_of(form))), ask(EVERYTHING)
    before = model(**inputs).logits
    config = LoraConfig(r=2, target_modules=["q_proj", "up_proj"], init_lora_weights=False)
    adapted = get_peft_model(model, config)
    changed = adapted(**inputs).logits
    assert not torch.allclose(changed, before, atol=1e-3)
    for merge in (adapted.merge_and_unload, adapted.merge_adapter):
        with pytest.raises(ModelInputError, match="the tokens of image, audio, video have weights"):
            merge()
    assert torch.equal(adapted(**inputs).logits, changed)
    assert torch.equal(adapted.unload()(**inputs).logits, before)


def test_text_of_a_single_modality_follows_it_through_generation(ask):
    model = filled(make_model(config_of("dense", text="own")))
    merged = filled(make_model(config_of("dense")))
    merged.load_state_dict(model.state_dict())
    alone, several = MIXED[4][1:2] + MIXED[4][2:3], EVERYTHING
    assert not torch.equal(model(**ask(alone)).logits, merged(**ask(alone)).logits)
    assert torch.equal(model(**ask(several)).logits, merged(**ask(several)).logits)
    chats = [alone, several, ("what is it",), (("audio", 5), "what")]
    batch = greedy(model, ask(*chats))
    for row, chat in zip(batch, chats, strict=True):
        assert torch.equal(greedy(model, ask(chat), use_cache=False)[0], row)
    assert torch.equal(
        greedy(model, ask(*chats), num_beams=1, cache_implementation="static"), batch
    )
