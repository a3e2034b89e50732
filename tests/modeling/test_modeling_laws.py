"""Laws of the composite: what it must equal."""

import pytest
import torch
from tiny_composite import (
    EVERYTHING,
    MIXED,
    all_modalities,
    make_model,
    make_processor,
    tiny_config,
)
from transformers import LlamaForCausalLM

from omnicompose.errors import ModelInputError, PlanError
from omnicompose.modeling import OmniComposeConfig


def plain_backbone(model) -> LlamaForCausalLM:
    plain = LlamaForCausalLM(model.config.text_config).eval()
    state = model.state_dict()
    plain.load_state_dict(
        {
            name: state[
                name
                if name == "lm_head.weight"
                else name.replace("model.", "model.language_model.", 1)
            ]
            for name in plain.state_dict()
        }
    )
    return plain


def test_no_media_is_the_plain_backbone_bit_for_bit(model, ask):
    inputs = ask(("what is in the picture",))
    plain = plain_backbone(model)
    ids = {"input_ids": inputs["input_ids"], "attention_mask": inputs["attention_mask"]}
    assert torch.equal(model(**inputs).logits, plain(**ids).logits)
    options = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    expected = plain.generate(**ids, **options, suppress_tokens=[3, 4, 5])
    assert torch.equal(model.generate(**inputs, **options), expected)


def test_without_streams_media_use_the_text_weights(ask):
    model = make_model(tiny_config(modalities=all_modalities(streams=False)))
    inputs = ask(EVERYTHING)
    plain = plain_backbone(model)
    embeds = plain.get_input_embeddings()(inputs["input_ids"])
    media = model.model.embed_media(
        {n: inputs[n] for n in ("pixel_values", "pixel_values_videos", "input_features")}, None
    )
    for type_id, name in {1: "image", 2: "video", 3: "audio"}.items():
        embeds[inputs["mm_token_type_ids"] == type_id] = media[name]
    expected = plain(inputs_embeds=embeds, attention_mask=inputs["attention_mask"]).logits
    assert torch.equal(model(**inputs).logits, expected)
    assert not any(".streams." in name for name in model.state_dict())


def test_one_expert_is_that_expert(ask):
    """Every token with its own weights: an expert's stream beside a base that differs from it."""
    only = {"image": all_modalities()["image"]}
    only["image"]["stream"] = {"form": "dense"}
    expert = make_model(tiny_config(modalities={"image": {**only["image"], "stream": None}}))
    composite = make_model(tiny_config(modalities=only))
    state = expert.state_dict()
    for name in list(state):
        path = name.removesuffix(".weight")
        if name.endswith("_proj.weight") and "language_model" in name:
            state[f"{path}.streams.image.weight"] = state[name]
    composite.load_state_dict(state)
    inputs = ask((("image", 1), "what is", ("image", 2), "?"))
    expected = expert(**inputs).logits
    torch.testing.assert_close(composite(**inputs).logits, expected, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        for name, parameter in composite.named_parameters():
            if name.endswith("_proj.weight") and "streams" not in name and "language" in name:
                parameter += 0.1
    assert not torch.allclose(composite(**inputs).logits, expected, atol=1e-3)
    only_media = {**inputs, "input_ids": inputs["input_ids"][:, 2:9], "pixel_values": None}
    only_media |= {"mm_token_type_ids": inputs["mm_token_type_ids"][:, 2:9], "attention_mask": None}
    only_media["media_embeds"] = {
        "image": torch.cat(expert.get_media_features("image", inputs["pixel_values"][:1]))
    }
    torch.testing.assert_close(
        composite(**only_media).logits, expert(**only_media).logits, rtol=1e-5, atol=1e-5
    )


def test_order_of_experts_changes_nothing(model, ask):
    entries = all_modalities()
    other = make_model(tiny_config(modalities={n: entries[n] for n in reversed(entries)}))
    other.load_state_dict(model.state_dict())
    assert torch.equal(model(**ask(*MIXED)).logits, other(**ask(*MIXED)).logits)


def test_batch_logits_are_those_of_single_runs(model, ask):
    batch = ask(*MIXED)
    position_ids = (batch["attention_mask"].cumsum(-1) - 1).clamp(min=0)
    together = model(**batch, position_ids=position_ids).logits
    for row, chat in zip(together, MIXED, strict=True):
        alone = model(**ask(chat)).logits[0]
        torch.testing.assert_close(row[-len(alone) :], alone, rtol=1e-4, atol=1e-5)


def test_loss_ignores_what_labels_ignore_and_kept_logits_are_the_last(model, ask):
    inputs = ask(EVERYTHING)
    labels = inputs["input_ids"].masked_fill(inputs["mm_token_type_ids"] != 0, -100)
    outputs = model(**inputs, labels=labels)
    logits, wanted = outputs.logits[0, :-1], labels[0, 1:]
    expected = torch.nn.functional.cross_entropy(logits[wanted != -100], wanted[wanted != -100])
    torch.testing.assert_close(outputs.loss, expected)
    last = model(**inputs, logits_to_keep=2).logits
    torch.testing.assert_close(last, outputs.logits[:, -2:], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_gradients_are_the_plain_ones(ask, reentrant):
    model = make_model(tiny_config()).train()
    # Dropout-free, but batch norms of the video encoder move in training: keep it in evaluation.
    model.model.video_encoder.eval()

    def gradients():
        model.zero_grad()
        losses = [
            model(**inputs, labels=inputs["input_ids"], use_cache=False).loss
            for inputs in (ask(*MIXED[:4]), ask(MIXED[1]), ask(*MIXED[4:]))
        ]
        sum(losses).backward()
        return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}

    expected = gradients()
    model.activation_checkpointing_enable({"use_reentrant": reentrant})
    found = gradients()
    assert set(found) == set(expected)
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-6)
    assert any(".streams.image.lora_A" in name for name in found)


def test_peft_on_top(ask):
    from peft import LoraConfig, get_peft_model

    model = make_model(tiny_config())
    inputs = ask(EVERYTHING)
    before = model(**inputs).logits
    target = r".*language_model.*(q_proj|up_proj)"
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=target, init_lora_weights=False))
    changed = adapted(**inputs).logits
    assert not torch.allclose(changed, before, atol=1e-3)
    assert torch.equal(
        adapted.generate(**inputs, max_new_tokens=4, do_sample=False, use_cache=False),
        adapted.generate(**inputs, max_new_tokens=4, do_sample=False),
    )
    with adapted.disable_adapter():
        assert torch.equal(adapted(**inputs).logits, before)


def test_peft_merges_into_text_and_factored_streams(ask):
    from peft import LoraConfig, get_peft_model

    entries = {"image": all_modalities()["image"]}
    model = make_model(tiny_config(modalities=entries))
    inputs = ask((("image", 1), "what is it"))
    adapted = get_peft_model(
        model, LoraConfig(r=2, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    )
    expected = adapted(**inputs).logits
    merged = adapted.merge_and_unload()
    torch.testing.assert_close(merged(**inputs).logits, expected, rtol=1e-4, atol=1e-4)


def test_inputs_embeds_need_types_where_streams_exist(model, ask):
    inputs = ask(EVERYTHING)
    embeds = model.get_input_embeddings()(inputs["input_ids"])
    names = ("pixel_values", "pixel_values_videos", "input_features")
    rest = {"attention_mask": inputs["attention_mask"], **{n: inputs[n] for n in names}}
    with pytest.raises(ModelInputError, match="inputs_embeds came without mm_token_type_ids"):
        model(inputs_embeds=embeds, **rest)
    types = inputs["mm_token_type_ids"]
    found = model(inputs_embeds=embeds, mm_token_type_ids=types, **rest).logits
    assert torch.equal(found, model(**inputs).logits)


def test_a_lacking_modality_is_named(ask):
    entries = {"image": all_modalities()["image"]}
    model = make_model(tiny_config(modalities=entries))
    with pytest.raises(ModelInputError, match="holds audio, but this model has encoders for image"):
        model(**ask((("audio", 2), "what")))
    processor = make_processor(entries)
    with pytest.raises(ModelInputError, match="holds audio, but this model has encoders for image"):
        processor(text="<audio> what", audio=[torch.zeros(16000)])


def test_placeholders_and_media_that_disagree_are_both_named(model, ask):
    inputs = ask((("image", 1), ("image", 2), "what"))
    inputs["pixel_values"] = inputs["pixel_values"][:1]
    wanted = "image: found 14 placeholder tokens in the input, but the media given make 7 embed"
    with pytest.raises(ModelInputError, match=wanted):
        model(**inputs)
    with pytest.raises(ModelInputError, match=wanted):
        model.generate(**inputs, num_beams=2, max_new_tokens=2)
    del inputs["pixel_values"]
    with pytest.raises(ModelInputError, match=r"found 14 placeholder tokens .* make 0 embeddings"):
        model(**inputs)
    text = ask(("what",))
    text["pixel_values"] = ask((("image", 1), "what"))["pixel_values"]
    with pytest.raises(ModelInputError, match=r"found 0 placeholder tokens .* make 7 embeddings"):
        model(**text)


def test_exactly_one_of_ids_and_embeddings(model):
    with pytest.raises(ModelInputError, match="both or neither of input_ids and inputs_embeds"):
        model()


def test_modalities_must_have_names_of_ours():
    with pytest.raises(PlanError, match=r"config\.modalities: found smell"):
        OmniComposeConfig(modalities={"smell": {"token": "<smell>", "token_id": 7}})


def test_get_encoder_and_mirrored_ids(model):
    assert model.get_encoder("audio") is model.model.audio_encoder
    assert model.get_encoder("image") is model.model.image_encoder
    config = model.config
    assert (config.image_token_id, config.video_token_id, config.audio_token_id) == (3, 4, 5)
    assert config.placeholder_ids == [3, 4, 5]
