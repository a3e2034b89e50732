"""Print the licences of everything that installing omnicompose brings, as Markdown.

    python docs/dependencies.py          in an environment with "omnicompose[dev]"

Read from the metadata of the installed packages; docs/dependencies.md holds what it printed.
"""

import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, metadata, requires
from pathlib import Path

from packaging.requirements import Requirement

PROJECT = Path(__file__).parents[1] / "pyproject.toml"
RENAMED = (
    (r"License-?Ref-?", ""),
    (r"Apache Software License|Apache 2\.0 License", "Apache-2.0"),
    (r"GNU Library or Lesser General Public License \(LGPL\)", "LGPL"),
    (r"Mozilla Public License 2\.0 \(MPL 2\.0\)", "MPL-2.0"),
    (r"Python Software Foundation License", "PSF-2.0"),
    (r"ISC License \(ISCL\)", "ISC"),
    (r"(MIT|BSD) License", r"\1"),
)


def wanted() -> dict[str, list[str]]:
    """Extra to its requirements; those of every installation under the name of none."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    own = {
        name: [one for one in found if "omnicompose[" not in one] for name, found in extras.items()
    }
    return {"": project["dependencies"], **own}


def closure(requirements: Iterable[str]) -> set[str]:
    """Names of what these need, directly or not, on this machine."""
    names: set[str] = set()
    waiting = [*requirements]
    while waiting:
        found = Requirement(waiting.pop())
        name = re.sub(r"[-_.]+", "-", found.name).lower()
        if name in names or (found.marker and not found.marker.evaluate({"extra": ""})):
            continue
        names.add(name)
        try:
            waiting += requires(name) or []
        except PackageNotFoundError:
            names.discard(name)
    return names


def licence(name: str) -> str:
    """What a package's metadata say."""
    fields = metadata(name)
    classes = fields.get_all("Classifier") or []
    stated = "; ".join(c.split(" :: ")[-1] for c in classes if c.startswith("License ::"))
    free = str(fields.get("License") or "not stated").strip().splitlines()[0]
    text = str(fields.get("License-Expression") or stated or free)
    for pattern, short in RENAMED:
        text = re.sub(pattern, short, text)
    return text


def rows() -> Iterator[str]:
    """Lines of the table: one per licence and extra, with its packages."""
    yield "| needed by | licence | packages |"
    yield "|---|---|---|"
    before: set[str] = set()
    for extra, requirements in wanted().items():
        names = closure(requirements) - before
        before |= names
        by_licence: dict[str, list[str]] = {}
        for name in sorted(names):
            by_licence.setdefault(licence(name), []).append(name)
        for text, packages in sorted(by_licence.items()):
            yield f"| {f'`[{extra}]`' if extra else 'all'} | {text} | {', '.join(packages)} |"


if __name__ == "__main__":
    sys.stdout.write("\n".join((*rows(), "")))
