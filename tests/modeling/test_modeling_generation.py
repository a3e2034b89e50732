"""Generation about any mixture of media, by every road that transformers offers."""

import pytest
import torch
from tiny_composite import EVERYTHING, MIXED, make_model, picture, tiny_config

GREEDY = {"max_new_tokens": 6, "do_sample": False}


def new_tokens(model, inputs, **options):
    tokens = model.generate(**inputs, **{**GREEDY, **options})
    return tokens[:, inputs["input_ids"].shape[1] :]


@pytest.fixture(scope="module")
def inputs(ask):
    return ask(EVERYTHING)


@pytest.fixture(scope="module")
def greedy(model, inputs):
    return new_tokens(model, inputs)


def test_media_matter(model, ask, greedy):
    other = ask((("image", 11), *EVERYTHING[1:]))
    assert not torch.equal(model(**other).logits, model(**ask(EVERYTHING)).logits)


def test_without_cache(model, inputs, greedy):
    assert torch.equal(new_tokens(model, inputs, use_cache=False), greedy)


def test_static_cache(model, inputs, greedy):
    assert torch.equal(new_tokens(model, inputs, cache_implementation="static"), greedy)


def test_types_are_read_off_placeholders_when_absent(model, inputs, greedy):
    bare = {name: value for name, value in inputs.items() if name != "mm_token_type_ids"}
    assert torch.equal(new_tokens(model, bare), greedy)


def test_embeddings_computed_before_give_the_same(model, inputs, greedy):
    names = {"image": "pixel_values", "audio": "input_features", "video": "pixel_values_videos"}
    media = {
        modality: torch.cat(model.get_media_features(modality, inputs[name]))
        for modality, name in names.items()
    }
    rest = {name: value for name, value in inputs.items() if name not in names.values()}
    assert torch.equal(new_tokens(model, {**rest, "media_embeds": media}), greedy)


def test_eight_mixed_samples_are_eight_single_runs(model, ask):
    batch = new_tokens(model, ask(*MIXED))
    for row, chat in zip(batch, MIXED, strict=True):
        assert torch.equal(row, new_tokens(model, ask(chat))[0])


def test_beams_and_several_answers_of_a_mixed_batch(model, ask):
    options = {"num_beams": 3, "num_return_sequences": 2}
    chats = [MIXED[3], MIXED[1], MIXED[6]]
    batch = new_tokens(model, ask(*chats), **options)
    assert batch.shape == (6, 6)
    for i, chat in enumerate(chats):
        assert torch.equal(batch[2 * i : 2 * i + 2], new_tokens(model, ask(chat), **options))


def test_one_beam_is_greedy_and_sampling_repeats_rows(model, ask, inputs, greedy):
    torch.manual_seed(0)
    sampled = new_tokens(model, inputs, do_sample=True, num_return_sequences=3, top_k=1)
    assert torch.equal(sampled, greedy.expand(3, -1))


def test_encoders_run_once_for_all_beams(model, inputs):
    calls = []
    hook = model.model.image_encoder.register_forward_hook(lambda _, x, __: calls.append(len(x[0])))
    new_tokens(model, inputs, num_beams=4)
    hook.remove()
    assert calls == [2]


@pytest.mark.parametrize("media", ["all", "new"])
def test_a_second_medium_in_a_later_turn_with_the_cache_kept(model, processor, ask, media):
    first = ask((("image", 1), "what is it"))
    out = model.generate(**first, **GREEDY, return_dict_in_generate=True)
    turns = torch.cat(
        [out.sequences, ask(("and", ("image", 4), ("audio", 2), "?"))["input_ids"]], 1
    )
    second = {
        "input_ids": turns,
        "attention_mask": torch.ones_like(turns),
        "mm_token_type_ids": torch.tensor(processor.create_mm_token_type_ids(turns.tolist())),
        "input_features": ask((("audio", 2),))["input_features"],
        "pixel_values": ask((("image", 1), ("image", 4)))["pixel_values"],
    }
    expected = new_tokens(model, second)
    if media == "new":
        second["pixel_values"] = second["pixel_values"][1:]
    assert torch.equal(new_tokens(model, second, past_key_values=out.past_key_values), expected)


def test_logits_of_a_dialogue_in_chunks_are_those_of_one_run(model, ask):
    inputs = ask(EVERYTHING)
    whole = model(**inputs).logits
    ids, types = inputs["input_ids"], inputs["mm_token_type_ids"]
    media = model.model.embed_media(
        {n: inputs[n] for n in ("pixel_values", "pixel_values_videos", "input_features")}, None
    )
    cache, parts, used = None, [], dict.fromkeys(media, 0)
    names = {1: "image", 2: "video", 3: "audio"}
    for start in range(0, ids.shape[1], 7):
        piece = types[:, start : start + 7]
        chunk = {}
        for type_id, name in names.items():
            count = int((piece == type_id).sum())
            if count:
                chunk[name] = media[name][used[name] : used[name] + count]
                used[name] += count
        out = model(
            input_ids=ids[:, start : start + 7],
            media_embeds=chunk,
            past_key_values=cache,
            use_cache=True,
        )
        cache = out.past_key_values
        parts.append(out.logits)
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-4, atol=1e-5)


def test_eager_attention_gives_the_same(inputs):
    sdpa, eager = make_model(tiny_config()), make_model(tiny_config())
    eager.set_attn_implementation("eager")
    expected = sdpa(**inputs).logits
    torch.testing.assert_close(eager(**inputs).logits, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(new_tokens(eager, inputs), new_tokens(sdpa, inputs))


def test_media_of_different_shapes(model):
    clips = [torch.rand(n, 3, 8, 8) for n in (2, 4, 2)]
    together = model.get_media_features("video", clips)
    assert [len(t) for t in together] == [2, 4, 2]
    for medium, embeds in zip(clips, together, strict=True):
        alone = model.get_media_features("video", medium[None])[0]
        torch.testing.assert_close(embeds, alone, rtol=1e-4, atol=1e-6)
    with_edges = model.get_media_features("image", [torch.rand(3, 8, 8)])
    assert len(with_edges[0]) == 2 + 4 + 1


def test_media_of_one_shape_are_one_encoder_call(model):
    calls = []
    hook = model.model.video_encoder.register_forward_hook(lambda _, x, __: calls.append(len(x[0])))
    model.get_media_features("video", [torch.rand(n, 3, 8, 8) for n in (2, 4, 2, 2)])
    hook.remove()
    assert calls == [3, 1]


def test_placeholders_are_never_said(model, ask):
    inputs = ask(("what",))
    model.generation_config.suppress_tokens, before = None, model.generation_config.suppress_tokens
    bias = torch.zeros(300)
    bias[3] = 1e4
    hook = model.lm_head.register_forward_hook(lambda _, __, out: out + bias)
    said = new_tokens(model, inputs, max_new_tokens=1)
    model.generation_config.suppress_tokens = before
    suppressed = new_tokens(model, inputs, max_new_tokens=1)
    hook.remove()
    assert said.tolist() == [[3]] and suppressed.tolist() != [[3]]


def test_pipeline(model, processor):
    from transformers import pipeline

    chat = [
        {
            "role": "user",
            "content": [{"type": "image", "image": picture(1)}, {"type": "text", "text": "what"}],
        }
    ]
    pipe = pipeline("image-text-to-text", model=model, processor=processor)
    (answer,) = pipe(text=chat, max_new_tokens=3, return_full_text=False)
    assert isinstance(answer["generated_text"], str)
