import pytest
from transformers import PreTrainedTokenizerBase

from omnicompose.zoo.questions import make_questions, render_messages
from omnicompose.zoo.tokenizer import ASSISTANT, BOS, EOS, USER, make_tokenizer
from omnicompose.zoo.words import facts
from omnicompose.zoo.world import MODALITY_SLOTS, SLOTS


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return make_tokenizer()


def pieces(tokenizer: PreTrainedTokenizerBase, text: str) -> list[str]:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return [tokenizer.decode([token]) for token in ids]


def test_vocabulary_is_small_and_reproducible(tokenizer: PreTrainedTokenizerBase) -> None:
    assert len(tokenizer) < 600
    assert make_tokenizer().get_vocab() == tokenizer.get_vocab()


@pytest.mark.parametrize("text", ["A café in 東京 🎈\n", "C++  & <html>\t", "zero", " red (A)"])
def test_any_text_survives(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == text


def test_words_of_the_world_are_one_token(tokenizer: PreTrainedTokenizerBase) -> None:
    for words in SLOTS.values():
        for word in words:
            assert pieces(tokenizer, f" {word}") == [f" {word}"]
            assert pieces(tokenizer, word) == [word]
    for kind, modalities in [("mcub", tuple(MODALITY_SLOTS)), ("true", ("video",))]:
        for question in make_questions(kind, modalities, 30, seed=0):
            words = [p for p in pieces(tokenizer, question.text) if p.strip().isalpha()]
            assert set(words) <= {*_words(question.text), *(f" {w}" for w in _words(question.text))}


def _words(text: str) -> set[str]:
    return set("".join(c if c.isalpha() else " " for c in text).split())


def test_options_begin_with_tokens_of_their_own(tokenizer: PreTrainedTokenizerBase) -> None:
    """Scoring by the first token after the prompt needs it."""
    phrases = [phrase for slot in SLOTS for phrase in facts(slot)]
    first = [tokenizer(phrase, add_special_tokens=False)["input_ids"][0] for phrase in phrases]
    assert len(set(first)) == len(phrases)


def test_letters_are_single_tokens_wherever_they_stand(tokenizer: PreTrainedTokenizerBase) -> None:
    for letter in "ABCD":
        (token,) = tokenizer(letter, add_special_tokens=False)["input_ids"]
        assert token in tokenizer(f"red ({letter})", add_special_tokens=False)["input_ids"]


def test_template_renders_typed_and_plain_content(tokenizer: PreTrainedTokenizerBase) -> None:
    typed = [
        {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "Describe."}]},
        {"role": "assistant", "content": "red"},
        {"role": "user", "content": "And now?"},
    ]
    text = tokenizer.apply_chat_template(typed, tokenize=False, add_generation_prompt=True)
    assert text == (
        f"{BOS}{USER}clip: <video>\nDescribe.{ASSISTANT}red{EOS}{USER}And now?{ASSISTANT}"
    )


def test_template_frames_media_as_captions_are_framed(tokenizer: PreTrainedTokenizerBase) -> None:
    question = make_questions("mcub", ("image", "audio"), 1, seed=0)[0]
    media = tokenizer.apply_chat_template(render_messages(question), tokenize=False)
    told = tokenizer.apply_chat_template(render_messages(question, (), "captions"), tokenize=False)
    for noun in ("picture", "sound"):
        assert f"{noun}: <" in media
        assert f"{noun}: " in told
    assert "<image>" not in told and media.endswith(question.text)


def test_placeholders_are_not_in_the_base_vocabulary(tokenizer: PreTrainedTokenizerBase) -> None:
    assert not {"<image>", "<audio>", "<video>"} & tokenizer.get_vocab().keys()


def test_the_loss_sees_the_assistants_turns_alone(tokenizer: PreTrainedTokenizerBase) -> None:
    chat = [{"role": "user", "content": "red"}, {"role": "assistant", "content": "blue"}]
    encoded = tokenizer.apply_chat_template(
        chat, return_dict=True, return_assistant_tokens_mask=True
    )
    said = [i for i, m in zip(encoded["input_ids"], encoded["assistant_masks"], strict=True) if m]
    assert tokenizer.decode(said) == f"blue{EOS}"
