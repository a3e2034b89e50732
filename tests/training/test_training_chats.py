import pytest
import torch
from transformers import PreTrainedTokenizerBase

from omnicompose.errors import TrainingError
from omnicompose.training import Chat, Media, collate
from omnicompose.zoo.tokenizer import make_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(["<image>", "<audio>"], special_tokens=True)
    return tokenizer


def shown(modality: str, reply: str) -> list[dict[str, object]]:
    content = [{"type": modality}, {"type": "text", "text": "Describe the picture."}]
    return [{"role": "user", "content": content}, {"role": "assistant", "content": reply}]


def test_each_placeholder_becomes_as_many_tokens_as_its_medium(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    features = torch.randn(3, 8)
    chats = [
        Chat(messages=shown("image", "red"), media=[Media(modality="image", features=features)]),
        Chat(messages=[{"role": "user", "content": "red"}, {"role": "assistant", "content": "no"}]),
    ]
    batch = collate(tokenizer, chats, {"image": 5})
    placeholder = tokenizer.convert_tokens_to_ids("<image>")
    assert (batch.input_ids[0] == placeholder).sum() == 5
    assert torch.equal(batch.type_ids == 1, batch.input_ids == placeholder)
    assert torch.equal(batch.features["image"], features[None])
    assert (batch.input_ids[1, -3:] == tokenizer.pad_token_id).all()


def test_answers_are_the_assistants_words_and_their_end(tokenizer: PreTrainedTokenizerBase) -> None:
    said = [
        {"role": "user", "content": "red"},
        {"role": "assistant", "content": "blue"},
        {"role": "user", "content": "big"},
        {"role": "assistant", "content": "small"},
    ]
    batch = collate(tokenizer, [Chat(messages=said)], {})
    words = tokenizer.convert_ids_to_tokens(batch.input_ids[batch.answers])
    assert words == ["blue", "<eos>", "small", "<eos>"]


def test_media_must_match_the_messages(tokenizer: PreTrainedTokenizerBase) -> None:
    medium = Media(modality="audio", features=torch.zeros(2, 4))
    chat = Chat(messages=shown("image", "red"), media=[medium])
    with pytest.raises(
        TrainingError, match=r"media \['audio'\]: found placeholders for \['image'\]"
    ):
        collate(tokenizer, [chat], {"image": 2, "audio": 2})
