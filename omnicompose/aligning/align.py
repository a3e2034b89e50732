"""`omnicompose align`: write a model anew so that it can be merged with another."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

from transformers import PreTrainedTokenizerBase

from omnicompose.aligning.matching import match
from omnicompose.aligning.tensors import WholeModel, check_same, read_model, write_model
from omnicompose.aligning.transport import transport
from omnicompose.aligning.vocabulary import TABLES, pieces_of, realigned
from omnicompose.errors import PlanError, SourceError
from omnicompose.experts.auto import UNREADABLE, first_line, load_auto
from omnicompose.export import refuse_existing
from omnicompose.recipe_values import Source, parse_source

Say = Callable[[str], None]
How = Literal["permutation", "transport", "vocabulary"]
CONFIG_FILE, GENERATION_FILE = "config.json", "generation_config.json"
TOKENIZER_FILES = ("tokenizer", "special_tokens_map", "added_tokens", "vocab", "merges", "chat_")


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignOptions:
    """How to align.

    Attributes:
        how: `permutation` of hidden units, optimal `transport` of feed-forward units, or the other
            model's `vocabulary`.
        regularisation: of the transport; 0 for the exact one.
        seed: of the permutation's visiting order.
        overwrite: replace the output folder if it exists.
    """

    how: str = "permutation"
    regularisation: float = 0.0
    seed: int = 0
    overwrite: bool = False

    def __post_init__(self) -> None:
        """Check the word.

        Raises:
            PlanError: it is none of the three.
        """
        if self.how not in get_args(How):
            raise PlanError(
                f"--how: found {self.how!r}, expected one of {', '.join(get_args(How))}."
            )


def source_of(text: str) -> Source:
    """A model as the command line names it.

    Raises:
        SourceError: the text names none.
    """
    try:
        return parse_source(text, Path.cwd())
    except ValueError as error:
        raise SourceError(f"{text}: {error}") from error


def align(
    reference: Source,
    model: Source,
    out: Path,
    options: AlignOptions | None = None,
    say: Say = lambda _line: None,
) -> None:
    """Write `model` so that it fits `reference`, into a folder of its own.

    Args:
        reference: stays as it is.
        model: a plain language model.
        out: the folder to make.
        options: how.
        say: takes one line of progress.

    Raises:
        PlanError: the models do not fit, or a library is lacking.
        SourceError: a model cannot be opened.
        ExportError: the folder exists.
    """
    options = options or AlignOptions()
    refuse_existing(out, overwrite=options.overwrite)
    first, second = read_model(reference), read_model(model)
    note = {"how": options.how, "model": str(model), "reference": str(reference)}
    if options.how == "vocabulary":
        _align_vocabulary(first, second, out, note)
        return
    check_same(first, second)
    if options.how == "permutation":
        tensors = match(first.tensors, second.tensors, second.shape, options.seed, say)
    else:
        amount = options.regularisation
        tensors = transport(first.tensors, second.tensors, second.shape, amount, say)
    write_model(second, tensors, out, note)


def _align_vocabulary(
    first: WholeModel, second: WholeModel, out: Path, note: dict[str, str]
) -> None:
    num_rows = len(first.tensors[TABLES[0]])
    pieces = pieces_of(_tokenizer(first), _tokenizer(second), num_rows)

    def adopt(folder: Path) -> None:
        _adopt_tokens(first, folder, num_rows)

    write_model(second, realigned(second.tensors, pieces), out, note, adopt)


def _tokenizer(model: WholeModel) -> PreTrainedTokenizerBase:
    label, folder = model.opened.label, model.opened.folder
    try:
        found = load_auto("AutoTokenizer", label, folder, trust_remote_code=False)
    except UNREADABLE as error:
        raise SourceError(
            f"{label}: no tokenizer that can be read ({first_line(error)}); expected one beside "
            "the weights. Put its files there."
        ) from error
    return cast(PreTrainedTokenizerBase, found)


def _adopt_tokens(first: WholeModel, folder: Path, num_rows: int) -> None:
    """Tokenizer files and special ids of the reference in place of a folder's own."""
    for path in folder.iterdir():
        if path.name.startswith(TOKENIZER_FILES):
            path.unlink()
    for path in first.opened.folder.iterdir():
        if path.name.startswith(TOKENIZER_FILES):
            shutil.copyfile(path, folder / path.name)
    _adopt_ids(folder / CONFIG_FILE, first, {"vocab_size": num_rows})
    _adopt_ids(folder / GENERATION_FILE, first, {})


def _adopt_ids(file: Path, first: WholeModel, more: Mapping[str, object]) -> None:
    """A configuration with the ids that the reference's file of that name gives, and no others."""
    if not file.is_file():
        return
    theirs = first.opened.folder / file.name
    given = _read(theirs) if theirs.is_file() else dict(first.opened.config)
    ids = {key: value for key, value in given.items() if key.endswith("_token_id")}
    own = {key: value for key, value in _read(file).items() if not key.endswith("_token_id")}
    text = json.dumps({**own, **ids, **more}, indent=2) + "\n"
    file.write_text(text, encoding="utf-8")


def _read(file: Path) -> dict[str, object]:
    return dict(json.loads(file.read_text(encoding="utf-8")))
