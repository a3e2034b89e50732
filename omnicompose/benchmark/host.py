"""Fine-tunes of one model, merged and asked: one composite stays loaded, its weights change.

Every merge is built by `omnicompose merge`. To ask it, the model that was fine-tuned is composed
once, alone; a merged tensor is copied over the one that the plan made from the base's. A scale
multiplies the merged delta, as `then: [{method: task_arithmetic, parameters: {scale: ...}}]` does
in a recipe, without building the merge again.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import torch
import yaml
from safetensors.torch import load_file
from torch import nn

from omnicompose.benchmark.backbone import write_backbone
from omnicompose.benchmark.cells import Cell
from omnicompose.benchmark.ground import (
    Built,
    Content,
    absolute,
    build_merge,
    method_fields,
)
from omnicompose.benchmark.suite import Suite
from omnicompose.composer import compose
from omnicompose.errors import EvaluationError
from omnicompose.evaluation.composite import Composite
from omnicompose.evaluation.loading import load_composite
from omnicompose.plan.make_plan import make_plan
from omnicompose.recipe import read_compose_recipe
from omnicompose.recipe_values import Source

Tensors = dict[str, torch.Tensor]
LANGUAGE_MODEL = "model.language_model."
"""Weights below it do not change what a medium is embedded as."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The base as a composite, and where a merged model's tensors go in it.

    Attributes:
        composite: loaded, of the base itself.
        places: tensor of a merged folder to tensor of the composite.
        base: the composite's own values of those tensors, fp32.
    """

    composite: Composite
    places: Mapping[str, str]
    base: Tensors

    def take(self, merged: Tensors, scale: float) -> None:
        """Give the composite base + scale * (merged - base).

        Raises:
            EvaluationError: the merged folder holds another tensor than the base, lacks one, or has
                one in another shape.
        """
        model: nn.Module = self.composite.model  # type: ignore[assignment]  # what was loaded is one
        held = model.state_dict()
        for name, value in merged.items():
            place = self._place(name, value)
            base = self.base[place]
            wanted = value if scale == 1.0 else base + scale * (value - base)
            if torch.equal(held[place], wanted):
                continue
            held[place].copy_(wanted)
            if not place.startswith(LANGUAGE_MODEL):
                self.composite.forget()
        if lacking := sorted(self.places.keys() - merged.keys()):
            raise EvaluationError(
                f"{lacking[0]}: the base has it, the merged model does not ({len(lacking)} of "
                f"{len(self.places)} tensors). A suite's models must be fine-tunes of its base."
            )

    def _place(self, name: str, value: torch.Tensor) -> str:
        place = self.places.get(name, "")
        if place not in self.base or self.base[place].shape != value.shape:
            raise EvaluationError(
                f"{name} {list(value.shape)}: the merged model has it, the base does not, or in "
                "another shape. A suite's models must be fine-tunes of its base."
            )
        return place


def open_host(suite: Suite, work: Path) -> Host:
    """Compose the base alone and load it.

    Raises:
        SourceError: the base cannot be opened.
        PlanError: it cannot be composed.
    """
    for left in ("backbone", "host"):  # of a run that was cut off, perhaps of another base
        shutil.rmtree(work / left, ignore_errors=True)
    backbone = suite.backbone
    place = absolute(backbone) if backbone else str(write_backbone(suite.base, work / "backbone"))
    content: Content = {
        "base": place,
        "experts": {suite.understands: {"source": absolute(suite.base), "weight": 1.0}},
        "text": {"method": "linear"},
        "roles": {"embedding": "method", "head": "method"},
        "allow_different_base": True,
        "dtype": "float32",
    }
    file = work / "host.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    recipe = read_compose_recipe(file)
    label = recipe.experts[suite.understands].source.text
    places = {
        origin.name: entry.output.name
        for entry in make_plan(recipe).plan.entries
        for origin in entry.inputs
        if origin.label == label
    }
    compose(file, work / "host")
    composite = load_composite(work / "host", "cpu", "float32")
    held: Tensors = composite.model.state_dict()  # type: ignore[attr-defined]
    base = {name: held[name].clone() for name in places.values()}
    return Host(composite=composite, places=places, base=base)


@dataclass(slots=True)
class MergeGround:
    """Fine-tunes of one model, merged.

    Attributes:
        suite: names them.
        host: asks what they become.
        data: by model what methods that look at data are shown.
    """

    suite: Suite
    host: Host
    data: Mapping[str, Path] = field(default_factory=dict)
    _held: tuple[Path, Tensors] | None = None

    def references(self) -> Mapping[str, Content]:
        """The base, each fine-tune, and the model trained on everything."""
        sources = {"base": self.suite.base, **self.suite.models}
        if self.suite.joint is not None:
            sources["joint training"] = self.suite.joint
        return {label: self._content([(label, source)]) for label, source in sources.items()}

    def recipe(self, cell: Cell, seed: int) -> Content:
        """A recipe of `omnicompose merge`."""
        models = [(name, self.suite.models[name]) for name in cell.models]
        content = self._content(models, self.suite.weight)
        if cell.data:
            content["models"] = [
                one | {"data": str(self.data[name].resolve())}
                for name, one in zip(cell.models, _entries(content), strict=True)
            ]
        return content | method_fields(cell) | {"seed": seed}

    def build(self, content: Content, folder: Path) -> Built:
        """Merge it."""
        return build_merge(content, folder)

    def take(self, folder: Path, scale: float) -> Composite:
        """The host with the folder's weights."""
        if self._held is None or self._held[0] != folder:
            self._held = folder, _tensors(folder)
        self.host.take(self._held[1], scale)
        return self.host.composite

    def _content(self, models: list[tuple[str, Source]], weight: float | None = None) -> Content:
        weighted: Content = {} if weight is None else {"weight": weight}
        return {
            "base": absolute(self.suite.base),
            "models": [
                {"source": absolute(source), "name": name} | weighted for name, source in models
            ],
            "method": "linear",
            "dtype": "float32",
        }


def _entries(content: Content) -> list[Content]:
    return cast(list[Content], content["models"])


def _tensors(folder: Path) -> Tensors:
    found: Tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        found |= load_file(path)
    return found
