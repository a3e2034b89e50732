"""Bundles: one shared delta from which each expert comes back through its own mask and scale.

`omnicompose merge` writes one for a recipe with `output: bundle`:

    bundle.json             method, names of the experts in order, the base
    model.safetensors       shared deltas, packed masks, scales (sharded like any model)
    model/                  configuration, tokenizer and processor of the base
    manifest.json           recipe, and sha256 of every input and output

The base's own weights are not repeated: a bundle is read together with them. Expert i of a tensor
is `base + scale_i * mask_i * delta`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from omnicompose.errors import ExportError, OmniComposeError
from omnicompose.export import Manifest, hash_folder
from omnicompose.merging.directions import brought_back
from omnicompose.plan.bundle_entries import (
    basis_name,
    coefficients_name,
    mask_name,
    scale_name,
)
from omnicompose.plan.merge_plan import MergePlan
from omnicompose.plan.participant import Participant, open_participant
from omnicompose.recipe_values import parse_source
from omnicompose.tensors.checkpoint import open_safetensors
from omnicompose.tensors.source import TensorSource, read_tensor

BUNDLE_FILE = "bundle.json"
MODEL_FOLDER = "model"
FORMAT = "omnicompose-bundle"
FORMAT_VERSION = 1
BITS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """An opened bundle: headers read, no weights.

    Attributes:
        folder: where it lies.
        method: that made it.
        experts: their names, in the order of their masks.
        base: what the deltas are laid over.
        tensors: deltas, masks and scales.
    """

    folder: Path
    method: str
    experts: tuple[str, ...]
    base: Participant
    tensors: TensorSource

    def tensor(self, name: str, expert: str | None = None) -> torch.Tensor:
        """One tensor of an expert, or of the unified model if no expert is named.

        Args:
            name: as the base calls it.
            expert: one of `experts`; None: the shared delta as it is.

        Returns:
            The tensor in the bundle's precision; the base's own where nothing was merged.

        Raises:
            ExportError: there is no such expert.
        """
        number = None if expert is None else self._number(expert)
        base, infos = read_tensor(self.base.weights.source, name), self.tensors.infos()
        if name not in infos:
            return base
        delta = read_tensor(self.tensors, name)
        dtype, delta = delta.dtype, delta.float()
        if number is not None and mask_name(name, number) in infos:
            mask = unpacked(read_tensor(self.tensors, mask_name(name, number)), delta.numel())
            scale = float(read_tensor(self.tensors, scale_name(name, number)))
            delta = delta * mask.view(delta.shape) * scale
        if number is not None and basis_name(name) in infos:
            basis = read_tensor(self.tensors, basis_name(name))
            own = read_tensor(self.tensors, coefficients_name(name, number))
            delta = delta + brought_back(own, basis, tuple(delta.shape))
        return (base.float() + delta).to(dtype)

    def _number(self, expert: str) -> int:
        if expert in self.experts:
            return self.experts.index(expert)
        raise ExportError(
            f"{self.folder}: found no expert {expert!r}; expected one of "
            f"{', '.join(self.experts)}. Name one of them."
        )


def load_bundle(
    folder: Path, *, expert: str | None = None, base: str | None = None
) -> dict[str, torch.Tensor]:
    """The weights of one expert of a bundle, under the base's names on disk.

    Args:
        folder: written by `omnicompose merge` for a recipe with `output: bundle`.
        expert: its name in the recipe; None: the unified model.
        base: the base as a recipe would name it, if it is not where the recipe had it.

    Raises:
        ExportError: no bundle, no such expert, or another base than it was made on.
    """
    bundle = open_bundle(folder, base=base)
    return {name: bundle.tensor(name, expert) for name in bundle.base.keys}


def open_bundle(folder: Path, *, base: str | None = None) -> Bundle:
    """Open a bundle and the base that it was made on; the base's files are hashed.

    Args:
        folder: the bundle.
        base: as a recipe would name it; by default what its own recipe says, from the current
            folder or the one around the bundle.

    Raises:
        ExportError: no bundle, or the base is not there or another one.
    """
    facts = _read_facts(folder)
    manifest = Manifest.read(folder)
    label = str(facts["base"])
    opened = _open_base(folder, label, base, raw=manifest.recipe["layout"] == "raw")
    expected = {r.path: r.sha256 for r in manifest.inputs if r.path.startswith(f"{label}/")}
    found = {
        record.path: record.sha256
        for place in opened.folders.values()
        for record in hash_folder(place, (".safetensors", ".bin", ".pt", ".pth"), label)
    }
    changed = sorted(path for path, sha256 in expected.items() if found.get(path) != sha256)
    if changed:
        raise ExportError(
            f"{folder}: {changed[0]} is not the file of the base that the bundle was made on. "
            "Give that base."
        )
    experts = facts["experts"]
    assert isinstance(experts, list)
    return Bundle(
        folder=folder,
        method=str(facts["method"]),
        experts=tuple(map(str, experts)),
        base=opened,
        tensors=open_safetensors(folder),
    )


def _read_facts(folder: Path) -> Mapping[str, object]:
    path = folder / BUNDLE_FILE
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        if facts["format"] == FORMAT and facts["format_version"] == FORMAT_VERSION:
            return {"experts": facts["experts"], "base": facts["base"], "method": facts["method"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExportError(
            f"{path}: no bundle ({error}). Expected a folder that `omnicompose merge` wrote for a "
            "recipe with `output: bundle`."
        ) from error
    raise ExportError(
        f"{path}: found another format; expected {FORMAT} {FORMAT_VERSION}. Merge again."
    )


def _open_base(folder: Path, label: str, given: str | None, *, raw: bool) -> Participant:
    places = [Path.cwd(), folder.resolve().parent]
    problems = []
    for place in places:
        try:
            source = parse_source(given or label, place)
            return open_participant(source, raw=raw, allow_pickle=False)
        except (OmniComposeError, ValueError) as error:
            problems.append(f"{place}: {error}")
    raise ExportError(
        f"{folder}: its base {given or label!r} cannot be opened.\n"
        + "\n".join(problems)
        + "\nName it: load_bundle(folder, base=...)."
    )


def write_bundle_file(plan: MergePlan, folder: Path) -> None:
    """Write `bundle.json` into a bundle's folder."""
    assert plan.base is not None
    facts = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "method": plan.recipe.method,
        "base": plan.base.label,
        "experts": [model.label for model in plan.recipe.models],
    }
    (folder / BUNDLE_FILE).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def unpacked(packed: torch.Tensor, num_elements: int) -> torch.Tensor:
    """A mask from its bytes: bool, flat; the first entry of a byte is its lowest bit."""
    bits = packed.view(-1, 1) >> torch.arange(BITS, dtype=torch.uint8)
    return (bits & 1).bool().view(-1)[:num_elements]
