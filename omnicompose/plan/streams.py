"""What a modality's own tokens use where it differs from the text weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from omnicompose.errors import PlanError
from omnicompose.experts.expert import Expert, Factor, Origin
from omnicompose.families import layer_of, role_of
from omnicompose.merging.job import Copy, Factors, Merge, ScaledFactor, TensorRef
from omnicompose.merging.masked import Masked
from omnicompose.plan.backbone import (
    backbone_names,
    composite_name,
    merge_inputs,
    merge_job,
)
from omnicompose.plan.plan import Entry
from omnicompose.plan.setting import Setting
from omnicompose.tensors.source import TensorInfo

STREAM_ROLES = ("attention", "mlp")
Piece = tuple[float, Factor]
FACTORED_REASON = "own delta minus the merged text delta is a sum of low-rank products: exact"
MASKED_REASON = "the merged delta through a one-bit mask, written out as matrices"
DENSE_REASON = "the text merge is not a sum of low-rank products: the expert's own matrices, exact"


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamPlan:
    """A modality's stream.

    Attributes:
        entries: its tensors.
        spec: the `stream` entry of its configuration; None where it uses the text weights.
        why: why it is stored so.
    """

    entries: tuple[Entry, ...]
    spec: Mapping[str, object] | None
    why: str = ""

    @property
    def num_bytes(self) -> int:
        """Bytes of its tensors."""
        return sum(entry.output.num_bytes for entry in self.entries)


def plan_stream(setting: Setting, expert: Expert) -> StreamPlan:
    """The cheapest exact form of an expert's own weights beside the merged text weights.

    Low-rank factors when everything in play is a sum of products: own delta minus merged text
    delta, of rank r_own + sum of the others. Otherwise the expert's own matrices.

    Raises:
        PlanError: the choice of the recipe is not available.
    """
    if setting.recipe.modality == "merged":
        return StreamPlan(entries=(), spec=None)
    if setting.recipe.modality == "emr":
        raise PlanError(
            "modality: emr is not available yet; expected `merged`, `exact` or `masked`. "
            "Mend `modality:` in the recipe."
        )
    if setting.recipe.streams.rank is not None:
        raise PlanError(
            "streams: rank: corrections cannot be truncated yet; expected null, which keeps them "
            "exact. Mend `streams:` in the recipe."
        )
    names = [name for name in backbone_names(setting) if _is_decoupled(setting, name)]
    if setting.recipe.modality == "masked":
        masked = tuple(_masked(setting, expert, name) for name in names)
        return StreamPlan(entries=masked, spec=_spec(names, "dense", None), why=MASKED_REASON)
    pieces = {name: _pieces(setting, expert, name) for name in names}
    factored = {name: found for name, found in pieces.items() if found is not None}
    ranks = {sum(factor.rank for _, factor in found) for found in factored.values() if found}
    if len(factored) == len(names) and not ranks:
        return StreamPlan(entries=(), spec=None)
    if len(factored) == len(names) and len(ranks) == 1 and all(factored.values()):
        entries = [
            entry
            for name, found in factored.items()
            for entry in _factored(setting, expert, name, found)
        ]
        spec = _spec(names, "factored", ranks.pop())
        return StreamPlan(entries=tuple(entries), spec=spec, why=FACTORED_REASON)
    dense = [_dense(setting, expert, name) for name in names]
    return StreamPlan(entries=tuple(dense), spec=_spec(names, "dense", None), why=DENSE_REASON)


def _is_decoupled(setting: Setting, name: str) -> bool:
    info = setting.base.weights.source.infos()[name]
    return role_of(name) in STREAM_ROLES and len(info.shape) == 2


def _pieces(setting: Setting, expert: Expert, name: str) -> list[Piece] | None:
    """Own delta minus merged text delta as scaled factors; None if it is no sum of products."""
    text = setting.text_factors(name)
    own = expert.own.factors.get(name)
    known = own is not None or expert.own.weights.origins[name] == expert.own.host.origins[name]
    if text is None or not known or not setting.on_base(expert):
        return None
    pieces = [(1.0, own)] if own is not None else []
    for coefficient, factor in text:
        # A single-adapter expert's own delta is one of the merged ones: one piece serves both.
        if own is not None and factor.b_name == own.b_name and factor.source is own.source:
            pieces[0] = (pieces[0][0] - coefficient, own)
        else:
            pieces.append((-coefficient, factor))
    return [piece for piece in pieces if piece[0] != 0.0]


def _factored(setting: Setting, expert: Expert, name: str, pieces: list[Piece]) -> list[Entry]:
    info = setting.base.weights.source.infos()[name]
    rank = sum(factor.rank for _, factor in pieces)
    path = f"{composite_name(name).removesuffix('.weight')}.streams.{expert.modality}"
    a_pieces = tuple(
        ScaledFactor(tensor=TensorRef(source=factor.source, name=factor.a_name))
        for _, factor in pieces
    )
    b_pieces = tuple(
        ScaledFactor(
            tensor=TensorRef(source=factor.source, name=factor.b_name),
            scale=coefficient * factor.scale,
        )
        for coefficient, factor in pieces
    )
    dtype = setting.dtype(info.dtype)
    shapes = {"lora_A": (rank, info.shape[1]), "lora_B": (info.shape[0], rank)}
    reason = f"own {expert.modality} delta minus the merged text delta, as factors"
    sides: tuple[tuple[str, tuple[ScaledFactor, ...], Literal[0, 1]], ...] = (
        ("lora_A", a_pieces, 0),
        ("lora_B", b_pieces, 1),
    )
    return [
        Entry(
            job=Factors(
                output=TensorInfo(name=f"{path}.{side}", dtype=dtype, shape=shapes[side]),
                pieces=side_pieces,
                axis=axis,
            ),
            inputs=tuple(
                Origin(label=piece.tensor.source.label, name=piece.tensor.name)
                for piece in side_pieces
            ),
            reason=reason,
        )
        for side, side_pieces, axis in sides
    ]


def _masked(setting: Setting, expert: Expert, name: str) -> Entry:
    """The expert's matrix as far as the merged delta can say it."""
    asked = setting.recipe.experts[expert.modality].mask_threshold
    streams = setting.recipe.streams
    treatment = setting.treatment(name)
    output = _stream_output(setting, expert, name)
    own, base = expert.own.weights, setting.base.weights
    merged: TensorRef | Merge = TensorRef(source=base.source, name=name)
    inputs = base.origins[name]
    if treatment.method is not None:
        merged = merge_job(setting, name, treatment, output)
        inputs = merge_inputs(setting, name, treatment)
    threshold = streams.mask_threshold if asked is None else asked
    return Entry(
        job=Merge(
            output=output,
            method=Masked(),
            parameters={"threshold": threshold, "signed": streams.mask_signed},
            base=TensorRef(source=base.source, name=name),
            experts=(TensorRef(source=own.source, name=name), merged),
            expert_names=(expert.modality, "merged"),
            weights=(1.0, 1.0),
            role=treatment.role,
            layer=treatment.layer,
            num_layers=setting.num_layers,
            key=name,
        ),
        inputs=tuple(dict.fromkeys((*own.origins[name], *inputs))),
        reason=f"the merged delta where the {expert.modality} expert's own is near it",
    )


def _stream_output(setting: Setting, expert: Expert, name: str) -> TensorInfo:
    info = setting.base.weights.source.infos()[name]
    path = composite_name(name).removesuffix(".weight")
    return TensorInfo(
        name=f"{path}.streams.{expert.modality}.weight",
        dtype=setting.dtype(info.dtype),
        shape=info.shape,
    )


def _dense(setting: Setting, expert: Expert, name: str) -> Entry:
    weights = expert.own.weights
    return Entry(
        job=Copy(
            output=_stream_output(setting, expert, name),
            tensor=TensorRef(source=weights.source, name=name),
        ),
        inputs=weights.origins[name],
        reason=f"the {expert.modality} expert's own matrix",
    )


def _spec(names: list[str], form: str, rank: int | None) -> dict[str, object]:
    layers = sorted({layer for name in names if (layer := layer_of(name)) is not None})
    roles = list(dict.fromkeys(name.removesuffix(".weight").rsplit(".", 1)[-1] for name in names))
    return {"form": form, "rank": rank, "roles": roles, "layers": layers}
