"""Two experts of one group in one composite: each exact in its own place, both in one prompt."""

from pathlib import Path

import pytest
import torch
from families_all import Shelf, load_composite, load_original, medium, say

pytestmark = pytest.mark.filterwarnings("ignore")

PAIRS = [
    {"image": "LlavaNext", "video": "VideoLlava"},
    {"image": "Idefics3", "video": "LlavaNextVideo"},
    {"image": "InternVL", "audio": "AudioFlamingo3"},
    {"image": "LlavaOnevision", "video": "VideoLlama3", "audio": "MusicFlamingo"},
    {"image": "Qwen2_5_VL", "audio": "Qwen2Audio"},
    {"video": "Qwen2VL", "audio": "AudioFlamingo3"},
    {"image": "Qwen2_5OmniThinker", "video": "InternVL"},
    {"image": "SmolVLM", "audio": "Voxtral"},
    {"image": "Llava", "video": "SmolVLM"},
    {"image": "VipLlava", "video": "LlavaNextVideo"},
    {"image": "Ovis2", "audio": "AudioFlamingo3"},
    {"image": "GraniteVision", "audio": "GraniteSpeech"},
    {"image": "Mistral3", "audio": "VoxtralSmall"},
]
KEYS = {"image": "images", "video": "videos", "audio": "audio"}


def ids(pair: dict[str, str]) -> str:
    return "+".join(pair.values())


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_all_media_in_one_prompt(shelf: Shelf, tmp_path: Path, pair: dict[str, str]) -> None:
    model, processor = load_composite(shelf.compose(tmp_path / "out", pair, "dtype: float32\n"))
    media = {KEYS[name]: [medium(name)] for name in pair}
    text = "".join(f"a <{name}>" for name in pair) + "what is this?"
    inputs = processor(text=text, return_tensors="pt", **media)
    with torch.no_grad():
        whole = model(**inputs).logits
    assert torch.isfinite(whole).all()
    for name in pair:
        moved = {KEYS[one]: [medium(one, seed=int(one == name))] for one in pair}
        other = processor(text=text, return_tensors="pt", **moved)
        with torch.no_grad():
            changed = model(**other).logits
        assert not torch.allclose(whole[0, -1], changed[0, -1]), f"{name} is not seen"
    assert len(say(model, inputs)) == 6


@pytest.mark.parametrize("pair", [PAIRS[2], PAIRS[4]], ids=ids)
def test_an_expert_of_weight_one_is_itself_beside_another(
    shelf: Shelf, tmp_path: Path, pair: dict[str, str]
) -> None:
    """Placeholders, rows and positions of one expert do not disturb the other's."""
    for first in pair:
        experts = {name: f"{one}, weight: {float(name == first)}" for name, one in pair.items()}
        roles = "roles: {norm: method, bias: method}\ndtype: float32\n"
        out = shelf.compose(tmp_path / first, experts, roles)
        model, processor = load_composite(out)
        original = load_original(shelf, pair[first])
        embed = original.model.get_input_embeddings().weight.data
        # The recipe keeps the base's embeddings and head; give the original the same.
        table = model.get_input_embeddings().weight.data
        embed[: len(embed)] = _rows_of(original, processor, table, embed)
        head = original.model.get_output_embeddings().weight.data
        words = 282
        head[:words] = model.get_output_embeddings().weight.data[:words]
        theirs = original.inputs(first, "a red ", "what is this?")
        ours = processor(
            text=f"a red <{first}>what is this?",
            return_tensors="pt",
            **{KEYS[first]: [medium(first)]},
        )
        expected = original.logits(theirs)[..., :words]
        with torch.no_grad():
            found = model(**ours).logits[..., :words]
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def _rows_of(
    original: object, processor: object, table: torch.Tensor, embed: torch.Tensor
) -> torch.Tensor:
    """The composite's rows in the original's numbering, token by token."""
    mapped = embed.clone()
    known = processor.tokenizer.get_vocab()
    for token, row in original.processor.tokenizer.get_vocab().items():
        if token in known:
            mapped[row] = table[known[token]]
    return mapped


@pytest.mark.parametrize("pair", [PAIRS[2], PAIRS[4]], ids=ids)
def test_a_padded_batch_says_what_its_rows_say_alone(
    shelf: Shelf, tmp_path: Path, pair: dict[str, str]
) -> None:
    model, processor = load_composite(shelf.compose(tmp_path / "out", pair, "dtype: float32\n"))
    texts = ["<image>what is this?", "a red <audio>", "what is this? a <image><audio>three", "red"]
    media = {"images": [medium("image"), medium("image", 1)], "audio": [medium("audio")] * 2}
    batch = processor(text=texts, return_tensors="pt", **media)
    together = model.generate(**batch, max_new_tokens=4, do_sample=False, eos_token_id=-1)
    alone = [
        {"images": [media["images"][0]]},
        {"audio": [media["audio"][0]]},
        {"images": [media["images"][1]], "audio": [media["audio"][1]]},
        {},
    ]
    for row, (text, given) in enumerate(zip(texts, alone, strict=True)):
        inputs = processor(text=text, return_tensors="pt", **given)
        said = model.generate(**inputs, max_new_tokens=4, do_sample=False, eos_token_id=-1)
        assert said[0, -4:].tolist() == together[row, -4:].tolist()


def test_beams_see_what_one_row_sees(shelf: Shelf, tmp_path: Path) -> None:
    pair = PAIRS[4]
    model, processor = load_composite(shelf.compose(tmp_path / "out", pair, "dtype: float32\n"))
    media = {"images": [medium("image")], "audio": [medium("audio")]}
    inputs = processor(text="<image><audio>what?", return_tensors="pt", **media)
    options = {"max_new_tokens": 4, "do_sample": False, "eos_token_id": -1}
    with_cache = model.generate(**inputs, **options)
    without = model.generate(**inputs, use_cache=False, **options)
    assert with_cache.tolist() == without.tolist()
    beams = model.generate(**inputs, num_beams=2, num_return_sequences=2, **options)
    assert beams.shape[0] == 2
