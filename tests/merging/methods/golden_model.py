"""The recorded models of tests/goldens/merging, and a merge of all their tensors in memory."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import torch
import yaml
from safetensors.torch import load_file

from omnicompose.merging.method import (
    MergeContext,
    Method,
    ParameterValue,
    Role,
    TensorGroup,
)
from omnicompose.merging.registry import METHODS, check_parameters
from omnicompose.merging.whole_tensor import merge_whole, observed

GOLDENS = Path(__file__).parents[2] / "goldens" / "merging"
NUM_LAYERS = 2
UNCHANGED = "model.layers.1.self_attn.k_proj.weight"
"""A tensor that expert e3 leaves as it is."""
LEFT = {
    "OUTSIDE": ("*embed_tokens*", "*lm_head*", "*norm*", "*bias*"),
    "EMBED": ("model.embed_tokens.weight", "lm_head.weight"),
    "UNCHANGED": (UNCHANGED,),
}
Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """How one recorded output is asked for in our words.

    Attributes:
        golden: id in the manifest.
        method: our name.
        profile: of that method.
        parameters: besides the profile's.
        experts: by default the recorded inputs without the base.
        weights: by default the recorded ones, or 1 for each.
        left: patterns of the tensors that the reference does not give to the method; the words of
            `LEFT` stand for patterns.
        left_to: what they get instead: the base, or `scale` times the mean delta.
        delta: the record holds the merged delta, without the base.
    """

    golden: str
    method: str = ""
    profile: str | None = None
    parameters: Mapping[str, ParameterValue] = field(default_factory=dict)
    experts: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    left: tuple[str, ...] = ()
    left_to: str = "base"
    delta: bool = False


def read_rows() -> list[Row]:
    """The table of recorded outputs."""
    rows = yaml.safe_load((GOLDENS / "rows.yaml").read_text())
    for row in rows:
        row["left"] = tuple(p for word in row.get("left", ()) for p in LEFT.get(word, (word,)))
        row["experts"], row["weights"] = (
            tuple(row.get("experts", ())),
            tuple(row.get("weights", ())),
        )
    return [Row(**row) for row in rows]


@cache
def manifest() -> dict[str, dict[str, object]]:
    entries = []
    for name in ("manifest_mergekit.json", "manifest_others.json"):
        entries += json.loads((GOLDENS / name).read_text())
    return {str(entry["id"]): entry for entry in entries}


@cache
def model(name: str, dtype: str) -> Tensors:
    return load_file(GOLDENS / "inputs" / dtype / f"{name}.safetensors")


@cache
def recorded(golden: str) -> Tensors:
    return load_file(GOLDENS / f"{golden}.safetensors")


def role_of(name: str) -> Role:
    for part, role in (
        ("embed_tokens", "embedding"),
        ("lm_head", "head"),
        ("norm", "norm"),
        ("bias", "bias"),
        ("self_attn", "attention"),
        ("mlp", "mlp"),
    ):
        if part in name:
            return role  # type: ignore[return-value]
    return "other"


def group_of(
    name: str, base: Tensors, experts: Sequence[Tensors], names: Sequence[str], weights
) -> TensorGroup:
    layer = re.search(r"\.layers\.(\d+)\.", name)
    return TensorGroup(
        name=name,
        role=role_of(name),
        layer=int(layer[1]) if layer else None,
        num_layers=NUM_LAYERS,
        shape=tuple(base[name].shape),
        base=base[name].float(),
        experts=tuple(expert[name].float() for expert in experts),
        expert_names=tuple(names),
        weights=tuple(weights),
    )


def merge_model(method: Method, groups: Sequence[TensorGroup], context: MergeContext) -> Tensors:
    """Merge every tensor; statistics of the whole model are added up first."""
    if method.spec.num_passes == 1 or method.survey(context.parameters).scope == "tensor":
        return {g.name: method.merge(g, observed(method, g, context)) for g in groups}
    context = observe_model(method, groups, context)
    return {g.name: method.merge(g, context) for g in groups}


def observe_model(
    method: Method, groups: Sequence[TensorGroup], context: MergeContext
) -> MergeContext:
    """The context with statistics that span all groups."""
    for observe_pass in range(method.survey(context.parameters).num_passes):
        total: Tensors = {}
        for group in groups:
            for key, value in method.observe(group, context, observe_pass).items():
                total[key] = total[key] + value if key in total else value
        context = replace(context, statistics={**context.statistics, **total})
    return context


def inputs_of(row: Row) -> list[TensorGroup]:
    entry = manifest()[row.golden]
    dtype = str(entry["input_dtype"])
    names = row.experts or tuple(n for n in entry["inputs"] if n != "base")  # type: ignore
    params: dict[str, object] = entry["params"]  # type: ignore[assignment]
    given = params.get("weight", {})
    weights = row.weights or tuple(given.get(n, 1.0) for n in names)  # type: ignore[attr-defined]
    base = model("base", dtype)
    experts = [model(name, dtype) for name in names]
    used = [n for n in base if not any(fnmatch(n, pattern) for pattern in row.left)]
    return [group_of(name, base, experts, names, weights) for name in used]


class Recorded:
    """Random numbers that reproduce recorded masks: 0 where an entry was kept, 1 where not."""

    def __init__(self, golden: str) -> None:
        self.masks = recorded(golden)

    def __call__(self, group: TensorGroup, expert: int, seed: int) -> torch.Tensor:
        mask = self.masks[f"aux::mask.{group.expert_names[expert]}.{group.name}"]
        return 1.0 - mask.float()


def method_of(row: Row) -> Method:
    method = METHODS[row.method]
    return replace(method, uniform=Recorded(row.golden)) if _draws(row) else method  # type: ignore


def _draws(row: Row) -> bool:
    return any(key.startswith("aux::mask") for key in recorded(row.golden)) and (
        METHODS[row.method].spec.stochastic
    )


def run(row: Row) -> Tensors:
    """What our method makes of the recorded inputs, tensors that were left out included."""
    parameters = check_parameters(row.method, row.parameters, row.profile)
    context = MergeContext(parameters=parameters)
    groups = inputs_of(row)
    merged = merge_model(method_of(row), groups, context)
    rest = [g for g in inputs_of(replace(row, left=())) if g.name not in merged]
    scale = float(parameters.get("scale", 1.0)) if row.left_to == "mean" else 0.0  # type: ignore
    for group in rest:
        mean = torch.stack([e - group.base for e in group.experts]).mean(0)
        merged[group.name] = group.base + scale * mean
    if row.delta:
        return {n: t - model("base", "fp32")[n] for n, t in merged.items()}
    return merged


def group_like(
    base: torch.Tensor | None,
    experts: Sequence[torch.Tensor],
    weights: Sequence[float] = (),
    **rest: object,
) -> TensorGroup:
    """A group of plain tensors, with names and equal weights filled in."""
    settings = {
        "name": "model.layers.0.mlp.up_proj.weight",
        "shape": tuple(experts[0].shape),
        "expert_names": tuple(f"expert{i}" for i in range(len(experts))),
        **rest,
    }
    weights = tuple(float(w) for w in weights) or (1.0,) * len(experts)
    return TensorGroup(base=base, experts=tuple(experts), weights=weights, **settings)


def merge_one(
    method: str,
    group: TensorGroup,
    parameters: Mapping[str, ParameterValue] | None = None,
    profile: str | None = None,
    seed: int = 0,
) -> torch.Tensor:
    """A whole tensor through the registry."""
    checked = check_parameters(method, parameters or {}, profile)
    return merge_whole(METHODS[method], group, MergeContext(parameters=checked, seed=seed))
