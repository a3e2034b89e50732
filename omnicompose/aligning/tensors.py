"""A whole model in memory under backbone names, and written again in its own format."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from omnicompose.errors import PlanError
from omnicompose.plan.participant import Participant, open_participant
from omnicompose.recipe_values import Source
from omnicompose.tensors.source import read_tensor

WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".index.json")
Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What has to be known of a decoder to permute it.

    Attributes:
        layers: blocks.
        heads: query heads per block.
        kv_heads: key and value heads per block; each serves `heads / kv_heads` query heads.
        head_width: of one head.
    """

    layers: int
    heads: int
    kv_heads: int
    head_width: int

    @property
    def group(self) -> int:
        """Query heads per key head."""
        return self.heads // self.kv_heads


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeModel:
    """A plain language model, all of it in memory.

    Attributes:
        opened: where it came from.
        tensors: by backbone name, fp32.
        shape: of the decoder.
    """

    opened: Participant
    tensors: Tensors
    shape: Shape

    @property
    def tied(self) -> bool:
        """Whether the head is the embeddings."""
        return "lm_head.weight" not in self.tensors


def read_model(source: Source) -> WholeModel:
    """Read a plain language model, or one with an adapter.

    Raises:
        SourceError: it cannot be opened.
        PlanError: it is no decoder of the kind of Llama.
    """
    opened = open_participant(source, raw=False)
    strange = [name for name, key in opened.keys.items() if key.part != "backbone"]
    if strange:
        raise PlanError(
            f"{source}: {strange[0]!r} belongs to no plain language model. Align the language "
            "models alone."
        )
    tensors = {
        key.name: read_tensor(opened.weights.source, name).float()
        for name, key in opened.keys.items()
    }
    return WholeModel(opened=opened, tensors=tensors, shape=_shape(source, opened.config, tensors))


def _shape(source: Source, config: Mapping[str, object], tensors: Tensors) -> Shape:
    numbers = {name: config.get(name) for name in ("num_hidden_layers", "num_attention_heads")}
    if not all(isinstance(n, int) for n in numbers.values()) or not (
        "model.layers.0.self_attn.q_proj.weight" in tensors
        and "model.layers.0.mlp.gate_proj.weight" in tensors
    ):
        raise PlanError(
            f"{source}: no decoder of the kind of Llama (separate q, k, v and gate, up, down "
            "projections), which aligning expects. Take such a model."
        )
    layers, heads = (int(str(n)) for n in numbers.values())
    kv_heads = int(str(config.get("num_key_value_heads") or heads))
    width = tensors["model.layers.0.self_attn.q_proj.weight"].shape[0] // heads
    return Shape(layers=layers, heads=heads, kv_heads=kv_heads, head_width=width)


def check_same(first: WholeModel, second: WholeModel) -> None:
    """Refuse models of different shapes.

    Raises:
        PlanError: naming a tensor.
    """
    ours = {name: tuple(t.shape) for name, t in first.tensors.items()}
    theirs = {name: tuple(t.shape) for name, t in second.tensors.items()}
    for name in sorted(ours.keys() | theirs.keys()):
        if ours.get(name) != theirs.get(name):
            raise PlanError(
                f"{second.opened.label}: {name} has shape {theirs.get(name)}, "
                f"{first.opened.label} has {ours.get(name)}. Align models of one architecture."
            )


def write_model(
    model: WholeModel,
    tensors: Tensors,
    out: Path,
    note: Mapping[str, object],
    finish: Callable[[Path], None] = lambda _folder: None,
) -> None:
    """Write a folder: tensors in their stored precision, everything else as it was.

    An older folder of that name is replaced when all is written.

    Args:
        model: lends names, precision and files.
        tensors: by backbone name.
        out: the folder.
        note: what was done, for `alignment.json`.
        finish: changes files of the folder before it has its name.
    """
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    infos = model.opened.weights.source.infos()
    stored = {
        name: tensors[key.name].to(infos[name].dtype).contiguous()
        for name, key in model.opened.keys.items()
        if key.name in tensors
    }
    save_file(stored, partial / "model.safetensors", metadata={"format": "pt"})
    for path in sorted(model.opened.folder.iterdir()):
        if path.is_file() and not path.name.endswith(WEIGHT_SUFFIXES):
            shutil.copyfile(path, partial / path.name)
    (partial / "alignment.json").write_text(json.dumps(dict(note), indent=2) + "\n")
    finish(partial)
    if out.exists():
        shutil.rmtree(out)
    partial.replace(out)
