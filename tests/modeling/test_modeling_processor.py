"""The processor: placeholders, types, chats, and clear errors."""

import numpy as np
import pytest
import torch
from tiny_composite import EVERYTHING, clip, make_processor, picture, sound

from omnicompose.errors import MediaError, ModelInputError
from omnicompose.modeling.processing_omnicompose import OmniComposeProcessor


def chat(*items: dict, role: str = "user") -> list[dict]:
    return [{"role": role, "content": list(items)}]


def text(words: str) -> dict:
    return {"type": "text", "text": words}


OPTIONS = {"tokenize": True, "return_dict": True, "return_tensors": "pt"}


def test_placeholders_are_as_many_as_embeddings(processor, model):
    inputs = processor(
        images=[picture(1)],
        audio=[sound(1)],
        videos=[clip(1)],
        text="<image> a <audio><video>",
        return_tensors="pt",
    )
    counts = {t: int((inputs["mm_token_type_ids"] == t).sum()) for t in (1, 2, 3)}
    media = model.model.embed_media(
        {n: inputs[n] for n in ("pixel_values", "pixel_values_videos", "input_features")}, None
    )
    assert counts == {1: len(media["image"]), 2: len(media["video"]), 3: len(media["audio"])}
    assert counts == {1: 4 + 3, 2: 3, 3: 2}
    assert set(inputs) <= set(processor.model_input_names)


def test_text_is_padded_on_the_left(processor):
    inputs = processor(text=["what is in the picture", "the"], return_tensors="pt")
    assert inputs["input_ids"][1, 0] == 0 and inputs["attention_mask"][1, 0] == 0
    assert inputs["attention_mask"][:, -1].tolist() == [1, 1]
    right = processor(text=["what is in", "the"], return_tensors="pt", padding_side="right")
    assert right["attention_mask"][1].tolist()[0] == 1


def test_without_tensors_rows_are_lists(processor):
    inputs = processor(text="the", images=None)
    assert isinstance(inputs["input_ids"][0], list)


def test_nested_lists_and_arrays_are_read_in_order(processor):
    pictures = [picture(i) for i in range(3)]
    nested = processor(text=["<image>", "<image><image>"], images=[[pictures[0]], pictures[1:]])
    flat = processor(text=["<image>", "<image><image>"], images=pictures)
    stacked = processor(
        text=["<image>", "<image><image>"], images=np.stack([np.asarray(p) for p in pictures])
    )
    assert torch.equal(nested["pixel_values"], flat["pixel_values"])
    assert torch.equal(stacked["pixel_values"], flat["pixel_values"])


def test_a_clip_may_be_a_list_of_pictures_and_samples_a_list_of_numbers(processor):
    frames = [picture(i) for i in range(6)]
    listed = processor(text="<video>", videos=frames)["pixel_values_videos"]
    array = np.stack([np.asarray(f) for f in frames])
    assert torch.equal(listed, processor(text="<video>", videos=array)["pixel_values_videos"])
    samples = [0.1, 0.2, 0.3] * 100
    features = processor(text="<audio>", audio=samples)["input_features"]
    array = np.asarray(samples, dtype=np.float32)
    assert torch.equal(features, processor(text="<audio>", audio=array)["input_features"])


def test_frames_are_chosen_as_the_video_processor_says(processor):
    assert processor(text="<video>", videos=clip(1))["pixel_values_videos"].shape[1] == 3
    four = processor(text="<video>", videos=clip(1), num_frames=4)
    assert four["pixel_values_videos"].shape[1] == 4
    every = processor(text="<video>", videos=clip(1), do_sample_frames=False)
    assert every["pixel_values_videos"].shape[1] == 6
    assert sum(every["mm_token_type_ids"][0]) == 2 * 6


def test_clips_of_different_lengths_come_as_a_list(processor, model):
    inputs = processor(
        text=["<video>", "a <video>"],
        videos=[clip(1, 2), clip(2, 5)],
        do_sample_frames=False,
        return_tensors="pt",
    )
    assert [len(c) for c in inputs["pixel_values_videos"]] == [2, 5]
    assert model(**inputs).logits.shape[0] == 2
    moved = inputs.to("cpu", torch.float32)
    assert len(moved["pixel_values_videos"]) == 2


def test_a_batch_is_what_its_samples_are_alone(processor, ask):
    both = ask(EVERYTHING, (("image", 9), "what"))
    alone = ask((("image", 9), "what"))
    assert torch.equal(both["pixel_values"][2:], alone["pixel_values"])


def test_placeholder_counts_that_do_not_match(processor):
    wanted = "image: found 2 placeholders <image> in the text, but 1 media were given"
    with pytest.raises(ModelInputError, match=wanted):
        processor(text="<image><image>", images=[picture(1)])
    with pytest.raises(ModelInputError, match=r"audio: found 0 placeholders .* but 1 media"):
        processor(text="what", audio=[sound(1)])
    with pytest.raises(ModelInputError, match=r"video: found 1 placeholders .* but 0 media"):
        processor(text="<video>")


def test_truncated_placeholders(processor):
    with pytest.raises(ModelInputError, match="image: found 3 tokens of id 3 after tokenization"):
        processor(text="<image>", images=[picture(1)], truncation=True, max_length=3)


def test_no_text(processor):
    with pytest.raises(ModelInputError, match="the processor got no text"):
        processor(images=[picture(1)])
    with pytest.raises(ModelInputError, match="message 0: found a text without words"):
        image = {"type": "image", "image": picture(1)}
        processor.apply_chat_template(chat(image, text("  ")), **OPTIONS)


def test_a_chat_with_a_lacking_modality_or_medium():
    processor = make_processor({})
    with pytest.raises(ModelInputError, match=r"found 'image', but this model has .* no modality"):
        processor.apply_chat_template(chat({"type": "image", "image": 1}, text("a")), **OPTIONS)
    with pytest.raises(ModelInputError, match="type 'image' names 0 media"):
        make_processor().apply_chat_template(chat({"type": "image"}, text("a")), **OPTIONS)


def test_a_placeholder_that_a_user_writes_is_text(processor):
    words = "what does the <video> tag do, and <image>?"
    image = {"type": "image", "image": picture(1)}
    inputs = processor.apply_chat_template(chat(image, text(words)), **OPTIONS)
    types = inputs["mm_token_type_ids"][0]
    assert (types == 1).sum() == 7 and (types == 2).sum() == 0
    assert words in processor.tokenizer.decode(inputs["input_ids"][0])
    plain = [{"role": "user", "content": words}]
    inputs = processor.apply_chat_template(plain, **OPTIONS)
    assert inputs["mm_token_type_ids"].sum() == 0
    with pytest.raises(ModelInputError, match="contains <image>, <video>, a medium's placeholder"):
        processor.apply_chat_template(plain, **OPTIONS, return_assistant_tokens_mask=True)


def test_assistant_masks_follow_expanded_placeholders(processor):
    template = processor.chat_template.replace(
        "{{- item['text'] if",
        "{% if message['role'] == 'assistant' %}{% generation %}{{ item['text'] }}"
        "{% endgeneration %}{% continue %}{% endif %}{{- item['text'] if",
    )
    turns = [
        *chat({"type": "image", "image": picture(1)}, text("what is it")),
        *chat(text("the picture"), role="assistant"),
    ]
    inputs = processor.apply_chat_template(
        turns, template, **OPTIONS, return_assistant_tokens_mask=True
    )
    ids = inputs["input_ids"][0][inputs["assistant_masks"][0] == 1]
    assert processor.tokenizer.decode(ids) == "the picture"


def test_media_of_several_turns(processor):
    turns = [
        *chat({"type": "image", "image": picture(1)}, text("what")),
        *chat(text("the"), role="assistant"),
        *chat({"type": "image", "image": picture(2)}, {"type": "audio", "audio": sound(1)}),
    ]
    inputs = processor.apply_chat_template(turns, **OPTIONS)
    assert len(inputs["pixel_values"]) == 2 and len(inputs["input_features"]) == 1


def test_round_trip_with_all_parts_and_with_some(processor, tmp_path):
    from transformers import AutoProcessor

    processor.save_pretrained(tmp_path / "all")
    again = AutoProcessor.from_pretrained(tmp_path / "all")
    assert type(again) is type(processor)
    assert again.modalities == processor.modalities
    question = chat({"type": "image", "image": picture(1)}, text("what"))
    expected = processor.apply_chat_template(question, **OPTIONS)
    found = again.apply_chat_template(question, **OPTIONS)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    image_only = make_processor({"image": processor.modalities["image"]})
    image_only.feature_extractor = image_only.video_processor = None
    image_only.save_pretrained(tmp_path / "some")
    again = AutoProcessor.from_pretrained(tmp_path / "some")
    assert again.feature_extractor is None and again.image_processor is not None
    found = again.apply_chat_template(question, **OPTIONS)
    assert torch.equal(found["input_ids"], expected["input_ids"])


def test_a_missing_preprocessor_is_named(processor):
    broken = make_processor()
    broken.image_processor = None
    with pytest.raises(ModelInputError, match="image: this processor has no preprocessor for it"):
        broken(text="<image>", images=[picture(1)])


def test_sizes_tell_token_counts(processor):
    sizes = processor._get_num_multimodal_tokens(
        image_sizes=[(20, 30), (8, 8)], video_sizes=[(9, 8, 8)], audio_lengths=[4000]
    )
    assert (sizes.num_image_tokens, sizes.num_video_tokens) == ([7, 7], [3])
    assert sizes.num_audio_tokens == [2] and sizes.num_image_patches == [1, 1]


def test_points_are_given_as_arrays_or_files(tmp_path):
    entry = {"token": "<video>", "token_id": 4, "encoder": {}, "connector": {}}
    processor = make_processor({"point": entry})
    cloud = np.random.default_rng(0).normal(size=(5, 3))
    np.save(tmp_path / "cloud.npy", cloud)
    (tensor,) = processor._preprocessors().tensors("point", [tmp_path / "cloud.npy"], {})
    assert torch.equal(tensor, torch.as_tensor(cloud, dtype=torch.float32))
    with pytest.raises(MediaError, match="given as point, but reading it failed"):
        processor._preprocessors().tensors("point", [tmp_path / "none.npy"], {})


def test_a_tokenizer_without_a_padding_token_pads_with_its_end():
    tokenizer = make_processor().tokenizer
    tokenizer.pad_token = None
    tokenizer.eos_token = "the"
    padded = OmniComposeProcessor(tokenizer=tokenizer)(text=["what is in the picture", "the"])
    assert padded["attention_mask"][1][0] == 0
    assert padded["input_ids"][1][0] == tokenizer.eos_token_id
