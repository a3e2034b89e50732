"""Licences of a composite's sources: what their folders say, and what holds for all together."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml

FRONT_MATTER = re.compile(r"\A---\n(.*?)\n---\s*$", re.DOTALL | re.MULTILINE)
ZOO, ZOO_LICENCE = "zoo:", "apache-2.0"


def stated_licences(folders: Mapping[str, Path]) -> dict[str, str | None]:
    """The licence that each folder's model card states; None where none does.

    Args:
        folders: by how the recipe names them. The zoo has the package's licence.
    """
    return {
        label: ZOO_LICENCE if label.startswith(ZOO) else _stated(folder)
        for label, folder in folders.items()
    }


def combined_licence(licences: Iterable[str | None]) -> str:
    """What the model hub's `license` field may say: the one licence of all, else `other`."""
    different = set(licences)
    (only,) = different if len(different) == 1 else (None,)
    return only or "other"


def _stated(folder: Path) -> str | None:
    """`license`, or the name beside `license: other`, in the front matter of README.md."""
    try:
        text = (folder / "README.md").read_text(encoding="utf-8")
        found = FRONT_MATTER.match(text)
        data = yaml.safe_load(found[1]) if found else None
    except (OSError, ValueError, yaml.YAMLError):
        return None
    if not isinstance(data, dict):
        return None
    licence, name = data.get("license"), data.get("license_name")
    stated = name if licence == "other" and isinstance(name, str) else licence
    return stated if isinstance(stated, str) else None
