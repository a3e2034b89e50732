"""The small values that recipes are written with: sources, sizes, coefficients."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

import yaml

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
SUBFOLDER = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)*")
ZOO_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?i?B)")
UNIT_BYTES = {
    "B": 1,
    **{f"{prefix}B": 1000**power for power, prefix in enumerate("KMGT", start=1)},
    **{f"{prefix}iB": 1024**power for power, prefix in enumerate("KMGT", start=1)},
}

Weight = float | tuple[float, ...] | Mapping[str, float]
"""A coefficient: one number, a list over depth, or a table of tensor name patterns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a model, an adapter or an expert comes from; nothing is opened yet.

    Attributes:
        text: what the recipe says, for messages and manifests.
        kind: `path` on this machine, `zoo` for a shipped model, `hub` for a hub repository.
        location: an absolute path, a zoo name without `zoo:`, or a hub id without its revision.
        revision: branch, tag or commit of a hub repository; None for its default branch.
        subfolder: of a hub repository that holds several models, from `owner/name:subfolder`.
        adapter: the adapter on top, from `base+adapter`.
    """

    text: str
    kind: Literal["path", "zoo", "hub"]
    location: str
    revision: str | None = None
    subfolder: str | None = None
    adapter: "Source | None" = None

    def __str__(self) -> str:
        """The text that it was read from."""
        return self.text


def parse_source(text: str, folder: Path) -> Source:
    """A source from its text: a path, `zoo:NAME`, `owner/name@revision` or `base+adapter`.

    Args:
        text: as the user wrote it.
        folder: what relative paths start from: the recipe's folder.

    Raises:
        ValueError: the text is none of these, or names a path that does not exist.
    """
    path = _as_path(text, folder)
    if text and path.exists():
        return Source(text=text, kind="path", location=str(path))
    if "+" in text:
        return _parse_adapted(text, folder)
    if text.startswith("zoo:"):
        return _parse_zoo(text)
    if text.startswith((".", "/", "~")) or text.partition(":")[0].count("/") > 1:
        raise ValueError(f"found {text!r}, but {path} does not exist. Correct the path.")
    _refuse_misspelt_path(text, folder)
    return _parse_hub(text)


def _refuse_misspelt_path(text: str, folder: Path) -> None:
    """A name of two parts whose first is a folder here means that folder, not the hub."""
    first, _, name = text.partition("/")
    place = _as_path(first, folder)
    if not name or ":" in text or "@" in text or not place.is_dir():
        return
    try:
        names = [path.name for path in place.iterdir()]
    except OSError:
        names = []  # it may not be looked into; the refusal needs no hint
    near = get_close_matches(name, names, n=1)
    hint = f"; did you mean {first}/{near[0]}?" if near else "."
    raise ValueError(
        f"found {text!r}, but {place} is a folder and holds no {name!r}{hint} "
        f"A repository of this name on the hub would be '{text}@main'."
    )


def _as_path(text: str, folder: Path) -> Path:
    if text.startswith("~"):
        return Path(text).expanduser()
    return (folder / text).resolve()


def _parse_adapted(text: str, folder: Path) -> Source:
    parts = text.split("+")
    if len(parts) > 2:
        raise ValueError(f"found {text!r}, expected one adapter: 'base+adapter'.")
    base, adapter = (parse_source(part.strip(), folder) for part in parts)
    return Source(
        text=text,
        kind=base.kind,
        location=base.location,
        revision=base.revision,
        subfolder=base.subfolder,
        adapter=adapter,
    )


def _parse_zoo(text: str) -> Source:
    name = text.removeprefix("zoo:")
    if not ZOO_NAME.fullmatch(name):
        raise ValueError(
            f"found {text!r}, expected 'zoo:NAME' such as 'zoo:image-standard'. "
            "`omnicompose zoo` lists the names."
        )
    return Source(text=text, kind="zoo", location=name)


def _parse_hub(text: str) -> Source:
    place, at, revision = text.partition("@")
    name, colon, subfolder = place.partition(":")
    known = HUB_ID.fullmatch(name) and bool(colon) == bool(SUBFOLDER.fullmatch(subfolder))
    if not known or bool(at) != bool(revision):
        raise ValueError(
            f"found {text!r}, expected an existing path, 'zoo:NAME', a hub id such as "
            "'owner/name@revision' or 'owner/name:subfolder', or 'base+adapter'."
        )
    return Source(
        text=text,
        kind="hub",
        location=name,
        revision=revision or None,
        subfolder=subfolder or None,
    )


def parse_size(text: str | int) -> int:
    """A number of bytes from `"2GiB"`, `"500 MB"` or a plain whole number.

    Raises:
        ValueError: the text is not a size, or the size is not positive.
    """
    if isinstance(text, int) and not isinstance(text, bool):
        num_bytes = text
    elif isinstance(text, str) and (match := SIZE.fullmatch(text.strip())):
        num_bytes = int(float(match[1]) * UNIT_BYTES[match[2]])
    else:
        num_bytes = 0
    if num_bytes < 1:
        raise ValueError(
            f"found {text!r}, expected a size such as '2GiB', '500MB' or a number of bytes."
        )
    return num_bytes


def parse_weight(value: object, folder: Path) -> Weight:
    """A coefficient from what the recipe holds; a text names a JSON or YAML table to read.

    Raises:
        ValueError: it is not made of finite numbers, or the table cannot be read.
    """
    if isinstance(value, str):
        value = _read_table(_as_path(value, folder), value)
    if is_finite(value):
        return float(value)  # type: ignore[arg-type]  # is_finite admits numbers only
    if isinstance(value, (list, tuple)) and value and all(map(is_finite, value)):
        return tuple(map(float, value))
    if isinstance(value, dict) and value and all(map(is_finite, value.values())):
        return {str(pattern): float(number) for pattern, number in value.items()}
    raise ValueError(
        f"found {value!r}, expected a finite number, a list of numbers over depth, a table "
        "{tensor pattern: number}, or the path of a JSON or YAML file with such a table."
    )


def is_finite(value: object) -> bool:
    """Whether a value from YAML is a number, and neither NaN nor infinite."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _read_table(path: Path, text: str) -> object:
    if path.suffix not in (".json", ".yaml", ".yml") or not path.is_file():
        raise ValueError(
            f"found {text!r}, expected a number, a list, or an existing .json or .yaml table "
            f"of coefficients; there is none at {path}."
        )
    try:
        content = path.read_text(encoding="utf-8")
        table: object = json.loads(content) if path.suffix == ".json" else yaml.safe_load(content)
    except (OSError, ValueError, yaml.YAMLError) as err:
        raise ValueError(f"the table {path} cannot be read: {err}") from err
    return table
