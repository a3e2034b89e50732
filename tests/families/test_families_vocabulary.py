"""Tokens of a composite: every expert's text reads as in its own tokenizer, token by token."""

from pathlib import Path

import pytest
from families_all import FAMILIES, Shelf
from transformers import AutoConfig, AutoProcessor, AutoTokenizer, GenerationConfig

pytestmark = pytest.mark.filterwarnings("ignore")

GROUP = {"image": "Idefics3", "video": "LlavaNextVideo"}
SENTENCES = ("what is this? a red three", "Frame: é 42\n\n", " two  spaces")


@pytest.fixture(scope="module")
def out(shelf: Shelf, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shelf.compose(tmp_path_factory.mktemp("words") / "out", GROUP)


@pytest.mark.parametrize("modality", GROUP)
def test_an_experts_text_reads_as_in_its_own_tokenizer(
    shelf: Shelf, out: Path, modality: str
) -> None:
    name = GROUP[modality]
    own = AutoTokenizer.from_pretrained(shelf.expert(name))
    ours = AutoTokenizer.from_pretrained(out)
    tokens = [token for token in FAMILIES[name].tokens if token not in ("<image>", "<video>")]
    for sentence in (*SENTENCES, "a" + "is".join(tokens) + "this"):
        expected = own.convert_ids_to_tokens(own(sentence)["input_ids"])
        ids = ours(sentence)["input_ids"]
        assert ours.convert_ids_to_tokens(ids) == expected
        assert ours.decode(ids) == own.decode(own(sentence)["input_ids"])


def test_words_keep_the_bases_ids_and_padded_rows_stay(shelf: Shelf, out: Path) -> None:
    base = AutoTokenizer.from_pretrained(shelf.base(FAMILIES["Idefics3"]))
    ours = AutoTokenizer.from_pretrained(out)
    known = ours.get_vocab()
    assert all(known[token] == token_id for token, token_id in base.get_vocab().items())
    config = AutoConfig.from_pretrained(out)
    assert config.text_config.vocab_size == max(320, len(ours))


def test_every_id_agrees_wherever_it_is_written(out: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(out)
    config = AutoConfig.from_pretrained(out)
    processor = AutoProcessor.from_pretrained(out)
    generation = GenerationConfig.from_pretrained(out)
    for modality in GROUP:
        token_id = tokenizer.convert_tokens_to_ids(f"<{modality}>")
        assert getattr(config, f"{modality}_token_id") == token_id
        assert config.modalities[modality]["token_id"] == token_id
        assert getattr(processor, f"{modality}_token_id") == token_id
        assert token_id in generation.suppress_tokens
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        assert getattr(config.text_config, name) == getattr(tokenizer, name)
        assert getattr(generation, name) == getattr(tokenizer, name)


def test_the_chat_template_writes_each_medium_as_its_expert_does(out: Path) -> None:
    processor = AutoProcessor.from_pretrained(out)
    content = [{"type": "image"}, {"type": "video"}, {"type": "text", "text": "what is this?"}]
    text = processor.apply_chat_template([{"role": "user", "content": content}])
    assert text == "<|user|><image><video>what is this?"
