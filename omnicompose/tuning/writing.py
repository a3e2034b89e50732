"""A recipe written back as YAML, for `omnicompose compose`."""

from pathlib import Path

import yaml

from omnicompose.recipe import ComposeRecipe
from omnicompose.recipe_values import Source


def write_recipe(recipe: ComposeRecipe, path: Path) -> None:
    """Write a recipe with every setting that is not a default.

    Args:
        recipe: what to write; paths in it become absolute, so that the file may lie anywhere.
        path: a YAML file.
    """
    content = recipe.model_dump(mode="json", exclude_defaults=True)
    content["base"] = _absolute(recipe.base)
    for modality, expert in recipe.experts.items():
        fields = content["experts"][modality]
        for name in fields:
            value = getattr(expert, name)
            if isinstance(value, Source):
                fields[name] = _absolute(value)
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def _absolute(source: Source) -> str:
    if source.kind != "path":
        return source.text
    adapter = "" if source.adapter is None else f"+{_absolute(source.adapter)}"
    return source.location + adapter
