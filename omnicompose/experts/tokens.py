"""The tokens of a tokenizer folder, read from its file without building a tokenizer."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from omnicompose.errors import SourceError

TOKENIZER_FILE = "tokenizer.json"
TEKKEN_FILE = "tekken.json"
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
        return _tokens(file.read_text(encoding="utf-8"))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SourceError(
            f"{file}: not a tokenizer of the tokenizers library ({error!r}). Save it again with "
            "save_pretrained."
        ) from error


def read_tekken(folder: Path) -> Tokens | None:
    """The tokens of a folder that has Mistral's own file; None where it has none.

    Raises:
        SourceError: the file is not what it should be.
    """
    file = folder / TEKKEN_FILE
    if not file.is_file():
        return None
    from transformers.integrations.mistral.tokenizer import MistralConverter

    try:
        return _tokens(MistralConverter(str(file)).converted().to_str())
    except (ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        raise SourceError(
            f"{file}: not a tokenizer of Mistral's that names its special tokens ({error!r}). Take "
            f"the checkpoint's {TOKENIZER_FILE}, or save one with save_pretrained."
        ) from error


def _tokens(content: str) -> Tokens:
    """The tokens of what a `tokenizer.json` holds."""
    data = json.loads(content)
    listed = data.get("added_tokens") or ()
    added = {str(one["content"]): int(one["id"]) for one in listed}
    flags = {
        str(one["content"]): {name: bool(one[name]) for name in FLAGS if name in one}
        for one in listed
    }
    vocabulary = data["model"]["vocab"]
    if isinstance(vocabulary, list):  # Unigram: pairs of piece and score.
        vocabulary = {piece: place for place, (piece, _) in enumerate(vocabulary)}
    ids = {str(token): int(token_id) for token, token_id in vocabulary.items()}
    return Tokens(
        ids=ids | added, added=added, flags=flags, merges=_digest(data["model"].get("merges"))
    )


def _digest(merges: Sequence[str | Sequence[str]] | None) -> str:
    """Of pairs; older files write a pair as one string with a space between."""
    pairs = [one.split(" ") if isinstance(one, str) else one for one in merges or ()]
    return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()
