"""Tokenizers and preprocessors from a folder; code that comes with one is not run unasked.

transformers' Auto classes run a folder's own code where they have no class of that name, and ask on
the terminal first. Here the recipe says so, or the folder is refused with the names of that code.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from omnicompose.errors import SourceError

FILES = (
    "tokenizer_config.json",
    "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "config.json",
)
UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError)
"""What transformers raises for files that are missing, malformed or of another version."""


class Loader(Protocol):
    """An Auto class of transformers."""

    def from_pretrained(
        self, folder: Path, *, local_files_only: bool, trust_remote_code: bool
    ) -> object:
        """What lies in the folder."""
        ...


def load_auto(auto_class: str, label: str, folder: Path, *, trust_remote_code: bool) -> object:
    """What an Auto class of transformers makes of a folder.

    Args:
        auto_class: its name, such as `AutoTokenizer`.
        label: how the user named the folder.
        folder: with the files.
        trust_remote_code: run code that lies in the folder, if transformers has no class for it.

    Raises:
        SourceError: the folder needs code of its own, which nobody allowed.
        OSError: or another of `UNREADABLE`: transformers cannot read it.
    """
    import transformers

    loader = getattr(transformers, auto_class)
    try:
        found = _load(loader, folder, trust_remote_code)
        return found if trust_remote_code else _without_code(found)
    except UNREADABLE as error:
        named = code_in(folder)
        if trust_remote_code or not named or "trust_remote_code" not in str(error):
            raise
        places = ", ".join(f"{code} ({file})" for file, code in named.items())
        raise SourceError(
            f"{label}: it needs code that comes with it, {places}, which is not run unasked. Read "
            "that code in its folder; then allow it by `trust_remote_code: true` "
            "(--trust-remote-code), or take a checkpoint that transformers reads by itself."
        ) from error


def _load(loader: Loader, folder: Path, trust_remote_code: bool) -> object:
    """What the loader makes of a folder; errors of tokenizers, which have no type, get one."""
    try:
        return loader.from_pretrained(
            folder, local_files_only=True, trust_remote_code=trust_remote_code
        )
    except Exception as error:
        if type(error) is not Exception:
            raise
        raise ValueError(str(error)) from error


def _without_code(part: object) -> object:
    """What is saved again must not name code of its folder that was never run."""
    for fields in (vars(part), getattr(part, "init_kwargs", {})):
        fields.pop("auto_map", None)
    return part


def code_in(folder: Path) -> dict[str, str]:
    """File to the classes of the folder's own that it names under `auto_map`."""
    found = {file: _classes(folder / file) for file in FILES if (folder / file).is_file()}
    return {file: ", ".join(classes) for file, classes in found.items() if classes}


def first_line(error: BaseException) -> str:
    """What an error says first; its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _classes(file: Path) -> list[str]:
    try:
        named = json.loads(file.read_text(encoding="utf-8")).get("auto_map")
    except (ValueError, AttributeError):
        return []
    entries = named.values() if isinstance(named, Mapping) else ()
    # A tokenizer names two classes, the second of which may be null.
    lists = [one if isinstance(one, list) else [one] for one in entries]
    return sorted({str(name) for names in lists for name in names if name is not None})
