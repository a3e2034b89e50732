"""The tokens of a tokenizer folder, read from `tokenizer.json` without building a tokenizer."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from omnicompose.errors import SourceError

TOKENIZER_FILE = "tokenizer.json"
FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """Every token by its text.

    Attributes:
        ids: of all tokens.
        added: those added to the model's own vocabulary, special ones among them.
        flags: how the text around an added token is treated, by its text.
        merges: digest of the rules by which ordinary tokens are put together.
    """

    ids: Mapping[str, int]
    added: Mapping[str, int]
    flags: Mapping[str, Mapping[str, bool]]
    merges: str


def read_tokens(folder: Path) -> Tokens | None:
    """The tokens of a folder; None where it has no `tokenizer.json`.

    Raises:
        SourceError: the file is not what it should be.
    """
    file = folder / TOKENIZER_FILE
    if not file.is_file():
        return None
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        added = {str(one["content"]): int(one["id"]) for one in data.get("added_tokens") or ()}
        flags = {
            str(one["content"]): {name: bool(one[name]) for name in FLAGS if name in one}
            for one in data.get("added_tokens") or ()
        }
        vocabulary = data["model"]["vocab"]
        merges = hashlib.sha256(json.dumps(data["model"].get("merges")).encode()).hexdigest()
        if isinstance(vocabulary, list):  # Unigram: pairs of piece and score.
            vocabulary = {piece: place for place, (piece, _) in enumerate(vocabulary)}
        ids = {str(token): int(token_id) for token, token_id in vocabulary.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SourceError(
            f"{file}: not a tokenizer of the tokenizers library ({error!r}). Save it again with "
            "save_pretrained."
        ) from error
    return Tokens(ids=ids | added, added=added, flags=flags, merges=merges)
