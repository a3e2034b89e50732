"""From chats to tensors: chat template, placeholders, and the tokens that a loss looks at.

Shapes: `B` chats, `L` tokens, `N` media of one modality, `M` features each, `E` encoder width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerBase

from omnicompose.errors import TrainingError
from omnicompose.modalities import MODALITIES


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """One medium as its frozen encoder left it.

    Attributes:
        modality: what it is.
        features: `[M, E]` fp32.
    """

    modality: str
    features: torch.Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    """One training sample.

    Attributes:
        messages: user and assistant turns as the tokenizer's chat template takes them.
        media: the media behind the media entries of `messages`, in their order.
    """

    messages: Sequence[Mapping[str, object]]
    media: Sequence[Media] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Chats padded on the right to one length.

    Attributes:
        input_ids: `[B, L]` int64; placeholders stand where media embeddings go.
        type_ids: `[B, L]` int64, the `token_type_id` of each position's modality.
        answers: `[B, L]` bool, the tokens that the assistant says.
        features: modality to `[N, M, E]` fp32, in the order of the placeholders.
    """

    input_ids: torch.Tensor
    type_ids: torch.Tensor
    answers: torch.Tensor
    features: Mapping[str, torch.Tensor]


def collate(
    tokenizer: PreTrainedTokenizerBase, chats: Sequence[Chat], num_tokens: Mapping[str, int]
) -> Batch:
    """Render, tokenise, expand and pad.

    Args:
        tokenizer: its chat template marks the assistant's words with a generation block, and its
            vocabulary holds the placeholder of every modality that is shown.
        chats: the samples.
        num_tokens: embeddings that one medium of each modality becomes.

    Raises:
        TrainingError: a chat with other media than its messages have placeholders for.
    """
    encoded = tokenizer.apply_chat_template(
        [list(chat.messages) for chat in chats],
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    types = {
        tokenizer.convert_tokens_to_ids(MODALITIES[name].placeholder): MODALITIES[name]
        for name in num_tokens
    }
    rows: list[list[tuple[int, int, int]]] = []
    for chat, ids, answers in zip(
        chats, encoded["input_ids"], encoded["assistant_masks"], strict=True
    ):
        found = [types[token].name for token in ids if token in types]
        if found != [medium.modality for medium in chat.media]:
            raise TrainingError(
                f"a chat with media {[m.modality for m in chat.media]}: found placeholders for "
                f"{found}. Give one medium per media entry of the messages, in their order."
            )
        row: list[tuple[int, int, int]] = []
        for token, said in zip(ids, answers, strict=True):
            modality = types.get(token)
            count, type_id = (
                (num_tokens[modality.name], modality.token_type_id) if modality else (1, 0)
            )
            row += [(token, type_id, said)] * count
        rows.append(row)
    padded = _pad(rows, (tokenizer.pad_token_id, 0, 0))
    return Batch(
        input_ids=padded[..., 0],
        type_ids=padded[..., 1],
        answers=padded[..., 2].bool(),
        features={name: _stack(chats, name) for name in num_tokens if _count(chats, name)},
    )


def _pad(rows: Sequence[list[tuple[int, int, int]]], filler: tuple[int, int, int]) -> torch.Tensor:
    """The rows as one tensor `[B, L, 3]`."""
    length = max(map(len, rows))
    return torch.tensor([row + [filler] * (length - len(row)) for row in rows])


def _count(chats: Sequence[Chat], modality: str) -> int:
    return sum(medium.modality == modality for chat in chats for medium in chat.media)


def _stack(chats: Sequence[Chat], modality: str) -> torch.Tensor:
    return torch.stack([m.features for chat in chats for m in chat.media if m.modality == modality])
