"""`omnicompose align`: write a model anew so that it can be merged with another."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from transformers import AutoTokenizer

from omnicompose.aligning.matching import match
from omnicompose.aligning.tensors import WholeModel, check_same, read_model, write_model
from omnicompose.aligning.transport import transport
from omnicompose.aligning.vocabulary import TABLES, pieces_of, realigned
from omnicompose.errors import PlanError, SourceError
from omnicompose.recipe_values import Source, parse_source

Say = Callable[[str], None]
How = Literal["permutation", "transport", "vocabulary"]
TOKENIZER_FILES = ("tokenizer", "special_tokens_map", "added_tokens", "vocab", "merges", "chat_")


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignOptions:
    """How to align.

    Attributes:
        how: `permutation` of hidden units, optimal `transport` of feed-forward units, or the other
            model's `vocabulary`.
        regularisation: of the transport; 0 for the exact one.
        seed: of the permutation's visiting order.
    """

    how: str = "permutation"
    regularisation: float = 0.0
    seed: int = 0

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
    target, own = (
        AutoTokenizer.from_pretrained(one.opened.folder, local_files_only=True)
        for one in (first, second)
    )
    num_rows = len(first.tensors[TABLES[0]])
    pieces = pieces_of(target, own, num_rows)
    write_model(second, realigned(second.tensors, pieces), out, note)
    for path in out.iterdir():
        if path.name.startswith(TOKENIZER_FILES):
            path.unlink()
    for path in first.opened.folder.iterdir():
        if path.name.startswith(TOKENIZER_FILES):
            shutil.copyfile(path, out / path.name)
    file = out / "config.json"
    ids = {k: v for k, v in first.opened.config.items() if k.endswith("_token_id")}
    config = json.loads(file.read_text(encoding="utf-8")) | ids | {"vocab_size": num_rows}
    file.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
