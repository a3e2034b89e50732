"""One vocabulary from several: tokens meet by their text, never by their number.

The first tokenizer's tokens keep their ids, so its configuration stays true; tokens that only
others have follow after its last one. A table is never made smaller: rows without a token stay.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from omnicompose.errors import PlanError
from omnicompose.experts.tokens import TOKENIZER_FILE, Tokens, read_tokens
from omnicompose.tensors.source import TensorSource
from omnicompose.tensors.table import RowRun, RowsOf

Place = tuple[int, int]
"""Number of a table, and a row of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTokens:
    """A model's tokens.

    Attributes:
        label: how the recipe names the model.
        folder: with its tokenizer.json.
        tokens: what that holds.
    """

    label: str
    folder: Path
    tokens: Tokens

    @property
    def file(self) -> Path:
        """The tokenizer's own file."""
        return self.folder / TOKENIZER_FILE


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenUnion:
    """The tokens of several tokenizers under one numbering.

    Attributes:
        ids: text to id; those of the first tokenizer are its own.
        new: tokens that the first lacks, in the order of their ids, with the one who has them.
        base_rows: rows of the first one's table, padding included.
        num_rows: rows of the joint table.
    """

    ids: Mapping[str, int]
    new: Mapping[str, ModelTokens]
    base_rows: int
    num_rows: int

    def facts(self) -> dict[str, object]:
        """For the manifest."""
        added = {text: self.ids[text] for text in self.new}
        return {"rows": self.num_rows, "base_rows": self.base_rows, "added_tokens": added}


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenTable:
    """An embedding table or head, with what its rows stand for."""

    source: TensorSource
    name: str
    owner: ModelTokens

    @property
    def ids(self) -> Mapping[str, int]:
        """Row of every token by its text."""
        return self.owner.tokens.ids

    @property
    def num_rows(self) -> int:
        """Rows, padding included."""
        return self.source.infos()[self.name].shape[0]


def model_tokens(label: str, folder: Path) -> ModelTokens:
    """The tokens of a folder's tokenizer.

    Raises:
        PlanError: it has no tokenizer.json.
        SourceError: it has one that cannot be read.
    """
    tokens = read_tokens(folder)
    if tokens is None:
        raise PlanError(
            f"{label}: {folder} has no {TOKENIZER_FILE}, so its tokens cannot be told. Save its "
            "tokenizer with AutoTokenizer.from_pretrained(...).save_pretrained(...)."
        )
    return ModelTokens(label=label, folder=folder, tokens=tokens)


def unite(models: Sequence[ModelTokens], base_rows: int) -> TokenUnion:
    """All tokens of several models; the first one's keep their ids.

    Args:
        models: the first one's tokenizer becomes the result's.
        base_rows: rows of its table, padding included.

    Raises:
        PlanError: a tokenizer has ordinary tokens that the first one lacks: it splits text
            in another way, and no row could stand for the same pieces of text.
    """
    first = models[0]
    ids = dict(first.tokens.ids)
    new: dict[str, ModelTokens] = {}
    for other in models[1:]:
        missing = sorted((i, text) for text, i in other.tokens.ids.items() if text not in ids)
        ordinary = [text for _, text in missing if text not in other.tokens.added]
        if ordinary:
            raise PlanError(
                f"{other.label}: its tokenizer has {len(ordinary)} ordinary tokens that the one of "
                f"{first.label} lacks (such as {ordinary[0]!r}): it splits text in another way. "
                "Merge models with one tokenizer, or keep the tables: "
                "`roles: {embedding: base, head: base}`."
            )
        for _, text in missing:
            ids[text] = max(ids.values(), default=-1) + 1
            new[text] = other
    num_rows = max(base_rows, max(ids.values(), default=-1) + 1)
    return TokenUnion(ids=ids, new=new, base_rows=base_rows, num_rows=num_rows)


def check_rows(table: TokenTable) -> None:
    """Refuse a table with fewer rows than its tokenizer has tokens.

    Raises:
        PlanError: naming the token.
    """
    text, last = max(table.ids.items(), key=lambda item: item[1], default=("", -1))
    if last >= table.num_rows:
        raise PlanError(
            f"{table.owner.label}: {table.name} has {table.num_rows} rows, its tokenizer has "
            f"{text!r} at {last}. Resize its embeddings with resize_token_embeddings, or give the "
            "tokenizer that it was trained with."
        )


def table_rows(tables: Sequence[TokenTable], number: int, union: TokenUnion) -> list[RowRun]:
    """The rows of table `number` in the joint numbering.

    A row is the table's own where it has the token; else the first table's; else the mean of the
    rows of those that have it. To a table that lacks a token its delta is therefore nothing.

    Args:
        tables: one per model, the first one's tokens keep their ids.
        number: which of them.
        union: of their tokens.
    """
    texts = {token_id: text for text, token_id in union.ids.items()}
    taken = set(tables[number].ids.values())
    places = []
    for row in range(union.num_rows):
        text = texts.get(row)
        if text is not None:
            places.append(_places_of(tables, number, text))
        elif row < tables[number].num_rows and row not in taken:
            places.append(((number, row),))
        else:
            places.append(((0, row),))
    return list(_runs(tables, places))


def _places_of(tables: Sequence[TokenTable], number: int, text: str) -> tuple[Place, ...]:
    for preferred in (number, 0):
        row = tables[preferred].ids.get(text)
        if row is not None:
            return ((preferred, row),)
    owners = ((k, table.ids.get(text)) for k, table in enumerate(tables))
    return tuple((k, row) for k, row in owners if row is not None)


def _runs(tables: Sequence[TokenTable], places: Sequence[tuple[Place, ...]]) -> Iterator[RowRun]:
    """Neighbouring rows that come from neighbouring rows, together."""
    start = 0
    for row in range(1, len(places) + 1):
        follows = row < len(places) and places[row] == tuple(
            (table, place + row - start) for table, place in places[start]
        )
        if not follows:
            parts = tuple(
                RowsOf(source=tables[table].source, name=tables[table].name, first=place)
                for table, place in places[start]
            )
            yield RowRun(first=start, num_rows=row - start, parts=parts)
            start = row
