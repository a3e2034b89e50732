"""Vocabulary alignment: embeddings and head of a model in the tokens of another tokenizer.

A token of the target is written as the model's own tokenizer writes it: its row if it is one token
there, the mean of its pieces' rows otherwise, the mean of all rows where it has no pieces.
Everything between embeddings and head stays, so that deltas of those tensors can be merged.

After the vocabulary mapping that specs/methods.md (A.10, B.8) and recipes with different tokenizers
call for; no single paper.
"""

from collections.abc import Sequence

import torch
from transformers import PreTrainedTokenizerBase

from omnicompose.aligning.tensors import Tensors

TABLES = ("model.embed_tokens.weight", "lm_head.weight")


def pieces_of(
    target: PreTrainedTokenizerBase, own: PreTrainedTokenizerBase, num_rows: int
) -> list[list[int]]:
    """For every row of the target's table the model's own tokens that stand for it."""
    known = own.get_vocab()
    texts: dict[int, str] = {number: text for text, number in target.get_vocab().items()}
    return [_pieces(texts.get(row), target, own, known) for row in range(num_rows)]


def _pieces(
    text: str | None,
    target: PreTrainedTokenizerBase,
    own: PreTrainedTokenizerBase,
    known: dict[str, int],
) -> list[int]:
    if text is None:
        return []
    if text in known:
        return [known[text]]
    spelled = target.convert_tokens_to_string([text])
    return list(own(spelled, add_special_tokens=False)["input_ids"]) if spelled else []


def realigned(tensors: Tensors, pieces: Sequence[Sequence[int]]) -> Tensors:
    """The tensors with tables of the target's rows."""
    found = dict(tensors)
    for name in TABLES:
        if name in tensors:
            table = tensors[name]
            mean = table.mean(0)
            rows = [table[list(one)].mean(0) if one else mean for one in pieces]
            found[name] = torch.stack(rows)
    return found
