"""The families as rows: what `omnicompose families` prints and the README shows."""

from omnicompose.families.entries import FAMILIES
from omnicompose.families.family import Family
from omnicompose.families.refused import REFUSED

COLUMNS = ("architecture", "modalities", "state", "how")


def family_rows() -> list[dict[str, str]]:
    """Every architecture that is known: what it understands, whether it composes, and how."""
    known = [
        {
            "architecture": name,
            "modalities": ", ".join(family.modalities) or "text",
            "state": "composes",
            "how": _how(family),
        }
        for name, family in FAMILIES.items()
    ]
    refused = [
        {"architecture": name, "modalities": "", "state": "refused", "how": reason}
        for name, reason in REFUSED.items()
    ]
    return [*known, *refused]


def families_markdown() -> str:
    """The same rows as a table in Markdown."""
    lines = [f"| {' | '.join(COLUMNS)} |", f"| {' | '.join('---' for _ in COLUMNS)} |"]
    lines += [f"| {' | '.join(row[column] for column in COLUMNS)} |" for row in family_rows()]
    return "\n".join(lines) + "\n"


def _how(family: Family) -> str:
    if not family.modalities:
        return "a base, or the backbone of other families"
    how = "its own towers and processor" if family.native else "its tower and connector, rebuilt"
    packages = family.native.packages if family.native else ()
    needs = [f"needs `pip install {' '.join(packages)}`"] if packages else []
    return "; ".join([how, *needs, *filter(None, [family.note])])
