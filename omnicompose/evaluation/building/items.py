"""What questions are made from: media, their captions, and what is true of each."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from omnicompose.errors import EvaluationError
from omnicompose.evaluation.sample import MODALITY_ORDER
from omnicompose.evaluation.tasks.records import Record, csv_rows, json_lines

FEWEST_ITEMS = 3
"""An attribute must be true of so many items in each modality, or one item would give it away."""
GREATEST_SHARE = 0.9
"""An attribute of nearly everything (`the`) tells nothing apart."""
_COMMON = """
a an and are as at be being by for from has have he her his in into is it its near next of off on
one onto or out over she some that the their them there they this through to up very was while who
with
"""
STOP_WORDS = frozenset(_COMMON.split())

Lexicon = Mapping[str, frozenset[str]]
"""Attribute to the words of which any in a caption makes it true (`animal`: dog, cat)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One medium and what is known of it.

    Attributes:
        modality: what it is.
        path: its file.
        caption: the sentence that describes it.
        attributes: everything that is true of it.
    """

    modality: str
    path: Path
    caption: str
    attributes: frozenset[str]


def read_items(path: Path, lexicon: Lexicon | None = None) -> list[Item]:
    """The media of a CSV or JSONL file with the columns modality, path, caption and, maybe, labels.

    Args:
        path: the file; paths in it are relative to its folder. `labels`: joined by `|`, or a list;
            they are what is true of the medium, in place of the caption's words.
        lexicon: attributes and their words; None: every word but the most common ones is one.

    Raises:
        EvaluationError: no such file, a column is missing, or an unknown modality.
    """
    if not path.is_file():
        raise EvaluationError(
            f"{path}: there is no such file; expected CSV or JSONL with the columns modality, path "
            "and caption, or the word zoo."
        )
    records = csv_rows(path) if path.suffix.lower() == ".csv" else json_lines(path)
    return [_item(record, path.parent, lexicon) for record in records]


def words_of(caption: str) -> list[str]:
    """The words of a sentence, without punctuation."""
    return re.findall(r"[\w'-]+", caption)


def attributes_of(words: Iterable[str], lexicon: Lexicon | None) -> frozenset[str]:
    """What is true of a thing described by these words."""
    said = frozenset(word.casefold() for word in words)
    if lexicon is None:
        return frozenset(word for word in said if word not in STOP_WORDS and len(word) > 1)
    return frozenset(name for name, implied in lexicon.items() if said & implied)


def shared_attributes(items: Iterable[Item], modalities: Iterable[str]) -> list[str]:
    """Attributes that each modality shows often enough to ask about, sorted."""
    kept: set[str] | None = None
    for modality in modalities:
        shown = [item.attributes for item in items if item.modality == modality]
        counts: dict[str, int] = {}
        for attribute in (a for attributes in shown for a in attributes):
            counts[attribute] = counts.get(attribute, 0) + 1
        usable = {a for a, n in counts.items() if FEWEST_ITEMS <= n <= GREATEST_SHARE * len(shown)}
        kept = usable if kept is None else kept & usable
    return sorted(kept or ())


def read_lexicon(values: Mapping[str, object], where: Path) -> Lexicon:
    """A lexicon from plain data: attribute to a list of words."""
    record = Record(str(where), values)
    return {name: frozenset(w.casefold() for w in record.texts(name)) for name in values}


def _item(record: Record, folder: Path, lexicon: Lexicon | None) -> Item:
    modality = MODALITY_ORDER[record.one_of("modality", MODALITY_ORDER)]
    caption = record.text("caption")
    words = list(_labels(record)) or words_of(caption)
    return Item(
        modality=modality,
        path=folder / record.text("path"),
        caption=caption,
        attributes=attributes_of(words, lexicon),
    )


def _labels(record: Record) -> Iterator[str]:
    value = record.values.get("labels")
    if isinstance(value, str):
        yield from (label.strip() for label in value.split("|") if label.strip())
    elif value is not None:
        yield from record.texts("labels")
