"""Where rows come from: a recipe for every row, built by `merge` or `compose` as a user would."""

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import yaml

from omnicompose.benchmark.cells import Cell
from omnicompose.benchmark.memory import watching
from omnicompose.composer import ComposeOptions, compose
from omnicompose.composer_build import ComposeResult
from omnicompose.evaluation.composite import Composite
from omnicompose.evaluation.loading import load_composite
from omnicompose.merger import merge
from omnicompose.recipe_values import Source

Content = dict[str, object]
DATA_SUFFIXES = (".search", ".statistics")
"""Of the folders that `merge` lays beside its result where it looks at data."""
Build = Callable[[Path, Path, ComposeOptions], ComposeResult]


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A merge on disk and what it cost.

    Attributes:
        folder: the finished folder.
        recipe: the file that `omnicompose merge` or `compose` makes it from.
        seconds: wall time of everything: data, search, planning, merge, hashing.
        cpu_seconds: of the same.
        peak_bytes: most memory that the engine's buffers held.
        memory_bytes: most memory that the process held, over what it held before.
    """

    folder: Path
    recipe: Path
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    memory_bytes: int


class Ground(Protocol):
    """Makes a suite's merges and opens them."""

    def references(self) -> Mapping[str, Content]:
        """Recipes of what merges are compared with, by label."""
        ...

    def recipe(self, cell: Cell, seed: int) -> Content:
        """The recipe of one row."""
        ...

    def build(self, content: Content, folder: Path) -> Built:
        """Build a recipe into a folder."""
        ...

    def take(self, folder: Path, scale: float) -> Composite:
        """A built folder as something to ask, its merged delta times `scale`."""
        ...


@dataclass(frozen=True, slots=True)
class ComposeGround:
    """Experts of several modalities, composed.

    Attributes:
        base: the language model.
        experts: by modality.
    """

    base: Source
    experts: Mapping[str, Source]

    def references(self) -> Mapping[str, Content]:
        """None: an expert alone cannot be asked about the others' modalities."""
        return {}

    def recipe(self, cell: Cell, seed: int) -> Content:
        """A recipe of `omnicompose compose`."""
        return {
            "base": absolute(self.base),
            "experts": {name: {"source": absolute(one)} for name, one in self.experts.items()},
            "text": method_fields(cell),
            "modality": cell.policy,
            "dtype": "float32",
            "seed": seed,
        }

    def build(self, content: Content, folder: Path) -> Built:
        """Compose it."""
        return build(compose, content, folder)

    def take(self, folder: Path, scale: float) -> Composite:
        """Open the composite; composites are not scaled."""
        assert scale == 1.0, "a suite of experts has no scales"
        return load_composite(folder, "cpu", "float32")


def build(how: Build, content: Content, folder: Path) -> Built:
    """Write a recipe beside its folder and build it, from nothing: its cost is that of one run."""
    recipe = folder.with_suffix(".yaml")
    recipe.parent.mkdir(parents=True, exist_ok=True)
    recipe.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    remove(folder)
    with watching() as peak:
        started, cpu_started = time.monotonic(), time.process_time()
        result = how(recipe, folder, ComposeOptions())
        seconds, cpu_seconds = time.monotonic() - started, time.process_time() - cpu_started
    return Built(
        folder=folder,
        recipe=recipe,
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        peak_bytes=result.peak_buffer_bytes,
        memory_bytes=peak.bytes,
    )


def remove(folder: Path) -> None:
    """A built folder, and what was measured or searched for it."""
    for suffix in ("", *DATA_SUFFIXES):
        shutil.rmtree(folder.with_name(f"{folder.name}{suffix}"), ignore_errors=True)


def build_merge(content: Content, folder: Path) -> Built:
    """Build a merge recipe."""
    return build(merge, content, folder)


def method_fields(cell: Cell) -> Content:
    """Method and settings as both kinds of recipe have them."""
    variant = cell.variant
    fields: Content = {"method": variant.method}
    if variant.profile is not None:
        fields["profile"] = variant.profile
    return fields | ({"parameters": dict(variant.parameters)} if variant.parameters else {})


def absolute(source: Source) -> str:
    """A source as a recipe anywhere can name it."""
    if source.kind != "path":
        return source.text
    adapter = "" if source.adapter is None else f"+{absolute(source.adapter)}"
    return source.location + adapter
