"""Name maps as data: what every known architecture is made of, and which cannot be composed."""

from omnicompose.families.entries import FAMILIES
from omnicompose.families.family import (
    VOCABULARY_ROLES,
    Family,
    ModuleMap,
    NativeMedia,
    NativeModel,
    PartKind,
    PartName,
    Role,
    Rule,
    layer_of,
    role_of,
)
from omnicompose.families.listing import families_markdown, family_rows
from omnicompose.families.refused import ORIGINALS, REFUSED

__all__ = [
    "FAMILIES",
    "ORIGINALS",
    "REFUSED",
    "VOCABULARY_ROLES",
    "Family",
    "ModuleMap",
    "NativeMedia",
    "NativeModel",
    "PartKind",
    "PartName",
    "Role",
    "Rule",
    "families_markdown",
    "family_rows",
    "layer_of",
    "role_of",
]
