"""The first look at a recipe, in the first second: configurations, file names, a few weights.

What these show to be wrong is said before torch is imported and before a weight is fetched from
the hub. Everything is checked again, against headers, when it is opened.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from omnicompose.errors import SourceError
from omnicompose.experts.config import dig_mapping, read_json
from omnicompose.experts.first_weights import first_cosine
from omnicompose.experts.kinds import ADAPTER_FILE, CONFIG_FILE, is_checkpoint
from omnicompose.experts.lineage_fields import compare_configs, unrelated
from omnicompose.experts.refusals import (
    family_of,
    refuse_as_base,
    refuse_gguf,
    refuse_missing_packages,
    refuse_modality,
    refuse_quantised,
    refuse_without_preprocessor,
)
from omnicompose.experts.resolve import resolve, resolve_text
from omnicompose.families import Family
from omnicompose.recipe import ComposeRecipe
from omnicompose.recipe_values import Source
from omnicompose.tensors.adapter_config import read_lora_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A checkpoint as its configuration describes it.

    Attributes:
        label: how the user named it.
        folder: where its files are.
        family: its architecture.
        text_config: what the file says of the language model, without defaults; empty where an
            older file says it elsewhere.
    """

    label: str
    folder: Path
    family: Family
    text_config: Mapping[str, object]


def look_first(recipe: ComposeRecipe) -> None:
    """Refuse what configurations already show to be wrong: the first mistake of every source.

    Raises:
        SourceError: one line per mistake.
    """
    problems: list[str] = []
    base = _look(recipe.base, None, problems)
    for modality, expert in recipe.experts.items():
        found = _look(expert.source, modality, problems)
        if base is not None and found is not None:
            problems += _misfits(base, found, modality) or (
                [] if recipe.allow_different_base else _strangers(base, found)
            )
    if problems:
        raise SourceError("\n".join(dict.fromkeys(problems)))


def _look(source: Source, modality: str | None, problems: list[str]) -> Look | None:
    try:
        return _checkpoint(source, modality)
    except SourceError as error:
        problems.append(str(error))
        return None


def _checkpoint(source: Source, modality: str | None) -> Look | None:
    """A source, or what its adapter lies on, if it is a checkpoint of transformers.

    Args:
        source: as the recipe names it.
        modality: what it is listed under; None for the base.
    """
    label, folder = source.text.split("+")[0].strip(), resolve(source, weights=False)
    if (folder / ADAPTER_FILE).is_file() and not is_checkpoint(folder):
        named = read_lora_settings(folder).base_model
        if not named:
            return None
        host, folder = resolve_text(named, folder, weights=False)
        label = host.text
    if not is_checkpoint(folder):
        return None
    config = read_json(folder / CONFIG_FILE)
    refuse_quantised(label, config)
    refuse_gguf(label, folder)
    family = family_of(label, config)
    if modality is None:
        refuse_as_base(label, family)
    else:
        refuse_modality(label, family, modality)
        refuse_missing_packages(label, family)
        refuse_without_preprocessor(label, modality, folder)
    try:
        text_config = dig_mapping(config, family.text_config)
    except KeyError:
        text_config = {}
    return Look(label=label, folder=folder, family=family, text_config=text_config)


def _misfits(base: Look, expert: Look, modality: str) -> list[str]:
    """Where both files say something of the language model and not the same."""
    shared = base.text_config.keys() & expert.text_config.keys()
    ours = {key: base.text_config[key] for key in shared}
    theirs = {key: expert.text_config[key] for key in shared}
    return [
        f"{expert.label} ({modality}): {one}. Experts of one composite must descend from one base, "
        f"here {base.label}."
        for one in compare_configs(ours, theirs)
    ]


def _strangers(base: Look, expert: Look) -> list[str]:
    """Weights of the right shapes that have nothing in common with the base's."""
    if base.folder == expert.folder:
        return []
    compared = first_cosine((base.folder, base.family), (expert.folder, expert.family))
    problem = None if compared is None else unrelated(expert.label, base.label, *compared)
    if problem is None:
        return []
    return [f"{problem} Name the base that the experts share, or set `allow_different_base: true`."]
