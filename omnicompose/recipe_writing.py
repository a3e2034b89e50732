"""A recipe written back as YAML, for `omnicompose compose` and `omnicompose merge`."""

from collections.abc import Mapping
from pathlib import Path

import yaml

from omnicompose.recipe import ComposeRecipe, MergeRecipe
from omnicompose.recipe_values import Source


def write_recipe(recipe: ComposeRecipe | MergeRecipe, path: Path) -> None:
    """Write a recipe with every setting that is not a default.

    Args:
        recipe: what to write; paths in it become absolute, so that the file may lie anywhere.
        path: a YAML file.
    """
    content = recipe.model_dump(mode="json", exclude_defaults=True)
    if recipe.base is not None:
        content["base"] = _absolute(recipe.base)
    if isinstance(recipe, MergeRecipe):
        for model, written in zip(recipe.models, content["models"], strict=True):
            # The name stays what it was, whatever the source is called now.
            written["name"] = model.label
            _make_absolute(model, written)
    else:
        for modality, expert in recipe.experts.items():
            _make_absolute(expert, content["experts"][modality])
    path.write_text(yaml.safe_dump(_plain(content), sort_keys=False), encoding="utf-8")


def _make_absolute(described: object, written: dict[str, object]) -> None:
    for name in written:
        value = getattr(described, name)
        if isinstance(value, Source):
            written[name] = _absolute(value)


def _absolute(source: Source) -> str:
    if source.kind != "path":
        return source.text
    adapter = "" if source.adapter is None else f"+{_absolute(source.adapter)}"
    return source.location + adapter


def _plain(value: object) -> object:
    """Mappings and sequences as YAML's own."""
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, (list, tuple)) else value
