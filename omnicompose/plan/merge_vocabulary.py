"""The vocabulary of a plain merge: tables brought to one numbering before anything is merged."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from omnicompose.errors import PlanError
from omnicompose.experts.expert import Origin, Weights
from omnicompose.experts.tokens import TOKENIZER_FILE
from omnicompose.families import VOCABULARY_ROLES
from omnicompose.plan.participant import Key, Participant
from omnicompose.plan.token_union import (
    ModelTokens,
    TokenTable,
    TokenUnion,
    check_rows,
    model_tokens,
    table_rows,
    unite,
)
from omnicompose.tensors.source import TensorSource, read_tensor
from omnicompose.tensors.table import RowRun, TableSource

HEAD = "lm_head.weight"
EMBEDDING = "model.embed_tokens.weight"
SAMPLE_ELEMENTS = 4096


def tensor_names(model: Participant, donor: Participant) -> dict[Key, str]:
    """The model's tensors by key; a head that it ties and the donor does not is its embeddings.

    Raises:
        PlanError: the model has a head of its own, and the donor's is tied to the embeddings.
    """
    ours, theirs = donor.names(), model.names()
    for key in ours.keys() | theirs.keys():
        if key.name != HEAD:
            continue
        embedding = theirs.get(replace(key, name=EMBEDDING))
        if key not in theirs and embedding is not None:
            theirs[key] = embedding
        elif key not in ours and embedding is not None:
            _check_tied(model, donor, theirs.pop(key), embedding)
    return theirs


def _check_tied(model: Participant, donor: Participant, head: str, embedding: str) -> None:
    """A head that is stored beside tied embeddings repeats them; another would be lost."""
    source = model.weights.source
    if source.infos()[head].shape == source.infos()[embedding].shape:
        size = source.infos()[head].num_elements
        start = max(0, (size - SAMPLE_ELEMENTS) // 2)
        end = min(size, start + SAMPLE_ELEMENTS)
        pair = (read_tensor(source, name, start, end).float() for name in (head, embedding))
        if torch.equal(*pair):
            return
    raise PlanError(
        f"{model.label}: {head} is not its embeddings, and the head of {donor.label} is tied to "
        "its embeddings: the result would have no place for it. Take a base or first model whose "
        "head is not tied (tie_word_embeddings: false)."
    )


def align(models: Sequence[Participant]) -> tuple[list[Participant], TokenUnion]:
    """The same models with embeddings and heads in the numbering of their joint vocabulary.

    Args:
        models: the first one lends the tokenizer; its tokens keep their ids.

    Raises:
        PlanError: a tokenizer is missing, does not fit its table, or splits text in another way.
    """
    donor = models[0]
    names = [tensor_names(model, donor) for model in models]
    keys = [key for key in names[0] if _is_table(key) and all(key in one for one in names)]
    tokens = [tokens_of(model) for model in models]
    if not keys:
        raise PlanError(
            f"{donor.label}: found no token embeddings that all models have, so there are no rows "
            "to unite. Leave `vocabulary` at `base`."
        )
    rows = donor.weights.source.infos()[names[0][keys[0]]].shape[0]
    union = unite(tokens, rows)
    aligned = [
        _aligned(number, models, names, keys, tokens, union) for number in range(len(models))
    ]
    return aligned, union


def _is_table(key: Key) -> bool:
    return key.role in VOCABULARY_ROLES and key.name in (HEAD, EMBEDDING)


def tokens_of(model: Participant) -> ModelTokens:
    """A model's tokens; an adapter's own tokenizer goes before its host's.

    Raises:
        PlanError: it has no tokenizer.
    """
    folders = reversed(list(model.folders.values()))
    found = next((one for one in folders if (one / TOKENIZER_FILE).is_file()), model.folder)
    return model_tokens(model.label, found)


def _aligned(
    number: int,
    models: Sequence[Participant],
    names: Sequence[dict[Key, str]],
    keys: Sequence[Key],
    tokens: Sequence[ModelTokens],
    union: TokenUnion,
) -> Participant:
    model, tables = models[number], dict[str, list[RowRun]]()
    origins, new_keys = dict(model.weights.origins), dict(model.keys)
    own_names = model.names()
    for key in keys:
        row = [
            TokenTable(source=one.weights.source, name=own[key], owner=found)
            for one, own, found in zip(models, names, tokens, strict=True)
        ]
        check_rows(row[number])
        # Embeddings that serve as a head too become two tables: new rows may differ.
        name = own_names.get(key, key.name)
        new_keys[name] = key
        tables[name] = table_rows(row, number, union)
        origins[name] = _origins(models, names, key, number, tables[name])
    files = tuple(found.file for found in tokens)
    source = TableSource(model.weights.source, tables, files)
    return replace(model, weights=Weights(source=source, origins=origins), keys=new_keys)


def _origins(
    models: Sequence[Participant],
    names: Sequence[dict[Key, str]],
    key: Key,
    number: int,
    runs: Sequence[RowRun],
) -> tuple[Origin, ...]:
    """The tensors on disk that a united table has rows of, its own first."""
    used: set[TensorSource] = {part.source for run in runs for part in run.parts}
    found = list(models[number].weights.origins[names[number][key]])
    for model, own in zip(models, names, strict=True):
        if model.weights.source in used:
            found += model.weights.origins[own[key]]
    return tuple(dict.fromkeys(found))
