"""The tensors of a stream, form by form."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Literal

import torch

from omnicompose.experts.expert import Origin
from omnicompose.merging.derived import MaskedWeight, MaskRule, MaskScale, ThinFactor
from omnicompose.merging.derived import num_bytes_packed as packed
from omnicompose.merging.job import (
    Copy,
    Derived,
    Factors,
    Job,
    Merge,
    Operand,
    Part,
    ScaledFactor,
    TensorRef,
)
from omnicompose.merging.registry import check_parameters, method_named
from omnicompose.plan.backbone import composite_name, merge_inputs, merge_job
from omnicompose.plan.plan import Entry
from omnicompose.plan.stream_tensors import Side
from omnicompose.tensors.source import TensorInfo

EMR = "emr"
EMR_RULE = MaskRule(threshold=0.0, signed=True)
"""Keeps every entry of equal sign."""
Letter = Literal["A", "B"]


def stream_name(side: Side, name: str, leaf: str) -> str:
    """A stream's tensor in the composite, beside the layer that `name` belongs to."""
    return f"{composite_name(name).rpartition('.')[0]}.streams.{side.stream}.{leaf}"


def dense_entries(side: Side) -> Iterator[Entry]:
    """The expert's own matrices, biases and norms."""
    for name in (*side.matrices, *side.biases):
        yield _own(side, name, "matrix" if name in side.matrices else "bias")
    yield from norm_entries(side)


def norm_entries(side: Side) -> Iterator[Entry]:
    """The expert's own norms."""
    for name in side.norms:
        yield _own(side, name, "norm")


def _own(side: Side, name: str, what: str) -> Entry:
    weights = side.backbone.weights
    return Entry(
        job=Copy(
            output=_output(side, name, name.rpartition(".")[2]),
            tensor=TensorRef(source=weights.source, name=name),
        ),
        inputs=weights.origins[name],
        reason=f"the {side.expert.modality} expert's own {what}",
    )


def factored_entries(side: Side, rank: int) -> Iterator[Entry]:
    """Own delta minus merged text delta as factors laid side by side; ranks left over are zero."""
    assert side.pieces is not None
    for name, found in side.pieces.items():
        out, width = side.info(name).shape
        scales = {"A": [1.0] * len(found), "B": [c * factor.scale for c, factor in found]}
        shapes = {"A": (rank, width), "B": (out, rank)}
        for letter, axis in _sides():
            pieces = tuple(
                ScaledFactor(
                    tensor=TensorRef(
                        source=factor.source,
                        name=factor.a_name if letter == "A" else factor.b_name,
                    ),
                    scale=scale,
                )
                for scale, (_, factor) in zip(scales[letter], found, strict=True)
            )
            yield Entry(
                job=Factors(
                    output=_output(side, name, f"lora_{letter}", shapes[letter]),
                    pieces=pieces,
                    axis=axis,
                ),
                inputs=tuple(
                    Origin(label=piece.tensor.source.label, name=piece.tensor.name)
                    for piece in pieces
                ),
                reason=f"own {side.expert.modality} delta minus merged text delta, as factors",
            )
    yield from norm_entries(side)


def truncated_entries(side: Side, rank: int) -> Iterator[Entry]:
    """The nearest factors of a rank to own minus merged weight."""
    for name in side.matrices:
        out, width = side.info(name).shape
        shapes = {"A": (rank, width), "B": (out, rank)}
        merged, inputs = merged_operand(side, name)
        for letter, _ in _sides():
            yield Entry(
                job=Derived(
                    output=_output(side, name, f"lora_{letter}", shapes[letter]),
                    operands=(_ref(side, name), merged),
                    maker=ThinFactor(shape=(out, width), rank=rank, side=letter),
                ),
                inputs=_with_own(side, name, inputs),
                reason=f"own {side.expert.modality} matrix minus the text matrix, truncated",
            )
    yield from norm_entries(side)


def _sides() -> tuple[tuple[Letter, Literal[0, 1]], ...]:
    return ("A", 0), ("B", 1)


def masked_entries(side: Side, shared: Callable[[str], Merge] | None, *, pack: bool) -> list[Entry]:
    """What a shared delta can say of the expert's own weights through a mask.

    Args:
        side: whose weights.
        shared: EMR's merge of a tensor; None: the text weight is masked by the recipe's rule.
        pack: write the mask and the base's weight, not the matrix.
    """
    entries: list[Entry] = []
    for name in (*side.matrices, *side.norms):
        merged, inputs = merged_operand(side, name)
        given: tuple[Operand, ...] = ()
        rule = _rule(side)
        if shared is not None:
            merge = shared(name)
            merged, rule = merge, EMR_RULE
            given = (Part(merge=merge, expert=side.setting.experts.index(side.expert)),)
            inputs = _emr_inputs(side, name)
        base = TensorRef(source=side.setting.base.weights.source, name=name)
        operands = (base, _ref(side, name), merged, *given)
        inputs = _with_own(side, name, inputs)
        bits = pack and name in side.matrices
        entries.append(_masked(side, name, MaskedWeight(rule=rule, packed=bits), operands, inputs))
        if bits:
            entries += _beside_mask(side, name, (base, merged, *given), inputs)
    return entries if pack else entries + _text_biases(side)


def _masked(
    side: Side,
    name: str,
    maker: MaskedWeight,
    operands: tuple[Operand, ...],
    inputs: tuple[Origin, ...],
) -> Entry:
    output = _output(side, name, "weight")
    if maker.packed:
        size = (packed(output.shape),)
        output = replace(_output(side, name, "mask", size), dtype=torch.uint8)
    return Entry(
        job=Derived(output=output, operands=operands, maker=maker),
        inputs=inputs,
        reason=f"the shared delta where the {side.expert.modality} expert's own is near it",
    )


def _beside_mask(
    side: Side, name: str, operands: tuple[Operand, ...], inputs: tuple[Origin, ...]
) -> list[Entry]:
    """The mask's scale, and the base's matrix that all masks of a layer start from."""
    scale = replace(_output(side, name, "mask_scale", ()), dtype=torch.float32)
    base = side.setting.base.weights
    path = composite_name(name).rpartition(".")[0]
    kept: Job = Copy(
        output=replace(_output(side, name, "weight"), name=f"{path}.base_weight"),
        tensor=TensorRef(source=base.source, name=name),
    )
    return [
        Entry(
            job=Derived(output=scale, operands=operands, maker=MaskScale()),
            inputs=inputs,
            reason="what the kept entries are multiplied by",
        ),
        Entry(job=kept, inputs=base.origins[name], reason="the base's matrix, for masks"),
    ]


def _text_biases(side: Side) -> list[Entry]:
    """A dense stream of a layer with a bias has one too: the text's."""
    entries = []
    for name in side.biases:
        treatment = side.setting.treatment(name)
        output = _output(side, name, "bias")
        base = side.setting.base.weights
        job: Job = Copy(output=output, tensor=TensorRef(source=base.source, name=name))
        inputs = base.origins[name]
        if treatment.method is not None:
            job = merge_job(side.setting, name, treatment, output)
            inputs = merge_inputs(side.setting, name, treatment)
        entries.append(
            Entry(job=job, inputs=inputs, reason=f"the text's bias; {treatment.phrase()}")
        )
    return entries


def emr_merge(side: Side, name: str) -> Merge:
    """EMR over the weights that the same kind of every expert's tokens use."""
    setting, treatment = side.setting, side.setting.treatment(name)
    backbones = side.peers
    return Merge(
        output=replace(_output(side, name, "weight"), name=composite_name(name)),
        method=method_named(EMR),
        parameters=check_parameters(EMR, {}),
        base=TensorRef(source=setting.base.weights.source, name=name),
        experts=tuple(TensorRef(source=one.weights.source, name=name) for one in backbones),
        # Not the text merge's names: what adds up over the model adds up over merges of one name.
        expert_names=tuple(f"{one.modality} {side.kind}" for one in setting.experts),
        weights=(1.0 / len(backbones),) * len(backbones),
        role=treatment.role,
        layer=treatment.layer,
        num_layers=setting.num_layers,
        key=name,
    )


def merged_operand(side: Side, name: str) -> tuple[Operand, tuple[Origin, ...]]:
    """The text weight as another job writes it."""
    setting, treatment = side.setting, side.setting.treatment(name)
    base = setting.base.weights
    if treatment.method is None:
        return TensorRef(source=base.source, name=name), base.origins[name]
    output = replace(_output(side, name, "weight"), name=composite_name(name))
    return merge_job(setting, name, treatment, output), merge_inputs(setting, name, treatment)


def _emr_inputs(side: Side, name: str) -> tuple[Origin, ...]:
    every = (one.weights.origins[name] for one in side.peers)
    found = [*side.setting.base.weights.origins[name], *(o for origins in every for o in origins)]
    return tuple(dict.fromkeys(found))


def _rule(side: Side) -> MaskRule:
    streams = side.setting.recipe.streams
    asked = side.setting.recipe.experts[side.expert.modality].mask_threshold
    threshold = streams.mask_threshold if asked is None else asked
    return MaskRule(threshold=threshold, signed=streams.mask_signed)


def _ref(side: Side, name: str) -> TensorRef:
    return TensorRef(source=side.backbone.weights.source, name=name)


def _with_own(side: Side, name: str, inputs: tuple[Origin, ...]) -> tuple[Origin, ...]:
    return tuple(dict.fromkeys((*side.backbone.weights.origins[name], *inputs)))


def _output(side: Side, name: str, leaf: str, shape: tuple[int, ...] | None = None) -> TensorInfo:
    info = side.info(name)
    return TensorInfo(
        name=stream_name(side, name, leaf),
        dtype=side.setting.dtype(info.dtype),
        shape=info.shape if shape is None else shape,
    )
