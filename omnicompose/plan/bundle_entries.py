"""The tensors of a bundle: per merged tensor one shared delta, and per expert a mask and a scale.

    name            merged - base, in the precision of the result
    name.mask.i     entries of it that expert i uses, one bit each, packed
    name.scale.i    what they are multiplied by, one fp32 number

or, for rmm, whose shared delta is the mean:

    name.basis      directions of every row
    name.coef.i     expert i's coefficients of them

A tensor whose method gives no bundle has its delta only: all experts share it as it is.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import cast

import torch

from omnicompose.errors import PlanError
from omnicompose.merging.derived import MaskedWeight, MaskRule, MaskScale, num_bytes_packed
from omnicompose.merging.directions import RowDirections, basis_shape
from omnicompose.merging.job import Derived, Difference, Merge, Operand, Part
from omnicompose.plan.plan import Entry
from omnicompose.tensors.source import TensorInfo

EMR, TALL, RMM = "emr", "tall", "rmm"


def mask_name(name: str, expert: int) -> str:
    """The packed mask of one expert in a bundle."""
    return f"{name}.mask.{expert}"


def scale_name(name: str, expert: int) -> str:
    """The scale of one expert in a bundle."""
    return f"{name}.scale.{expert}"


def bundle_entries(entries: Sequence[Entry]) -> list[Entry]:
    """The entries of a bundle from those of a plain merge; kept tensors stay with the base.

    Raises:
        PlanError: no method of the recipe gives a bundle, or something follows the merge.
    """
    merged = [(entry, entry.job) for entry in entries if isinstance(entry.job, Merge)]
    if any(isinstance(expert, Merge) for _, job in merged for expert in job.experts):
        raise PlanError(
            "output: bundle holds what the method itself gives; nothing can follow it. Leave out "
            "`then:`, or take `output: model`."
        )
    if not any(job.method.spec.output == "bundle" for _, job in merged):
        raise PlanError(
            "output: bundle needs a method that gives one, and the recipe names none; expected "
            f"{EMR}, {TALL} or {RMM}. Take one of them, or `output: model`."
        )
    return [made for entry, job in merged for made in _of_tensor(entry, job)]


def _of_tensor(entry: Entry, job: Merge) -> Iterator[Entry]:
    if job.base is None:
        raise PlanError(f"{entry.output.name}: a bundle is laid over a base. Add `base:`.")
    # Operands of other tensors count as they are written: in fp32 nothing is rounded twice.
    exact = replace(job, output=replace(job.output, dtype=torch.float32))
    yield replace(entry, job=Difference(output=job.output, minuend=exact, subtrahend=job.base))
    if job.method.spec.name == RMM:
        yield from _directions(entry, exact, job.base)
    elif job.method.spec.output == "bundle":
        for number, expert in enumerate(job.experts):
            yield _mask(entry, exact, job.base, number, expert)
            yield _scale(entry, exact, job.base, number)


def basis_name(name: str) -> str:
    """The directions of a tensor's rows in a bundle."""
    return f"{name}.basis"


def coefficients_name(name: str, expert: int) -> str:
    """One expert's coefficients of them."""
    return f"{name}.coef.{expert}"


def _directions(entry: Entry, job: Merge, base: Operand) -> Iterator[Entry]:
    shape, count = job.output.shape, int(cast(int, job.parameters["directions"]))
    rows, _, width = basis_shape(shape, count)
    if count == 0:
        return
    described: list[tuple[str, tuple[int, ...], int | None, str]] = [
        (basis_name(job.output.name), (rows, count, width), None, "directions of every row")
    ]
    described += [
        (
            coefficients_name(job.output.name, number),
            (rows, count),
            number,
            f"{name}'s share of them",
        )
        for number, name in enumerate(job.expert_names)
    ]
    for name, own, number, reason in described:
        yield replace(
            entry,
            job=Derived(
                output=TensorInfo(name=name, dtype=entry.output.dtype, shape=own),
                operands=(base, *job.experts),
                maker=RowDirections(shape=shape, count=count, expert=number),
            ),
            reason=reason,
        )


def _mask(entry: Entry, job: Merge, base: Operand, number: int, expert: Operand) -> Entry:
    name = mask_name(job.output.name, number)
    size = (num_bytes_packed(job.output.shape),)
    return replace(
        entry,
        job=Derived(
            output=TensorInfo(name=name, dtype=torch.uint8, shape=size),
            operands=(base, expert, job),
            maker=MaskedWeight(rule=_rule(job), packed=True),
        ),
        reason=f"entries of the shared delta that {job.expert_names[number]} uses, packed",
    )


def _scale(entry: Entry, job: Merge, base: Operand, number: int) -> Entry:
    name = scale_name(job.output.name, number)
    scaled = (Part(merge=job, expert=number),) if job.method.spec.name == EMR else ()
    return replace(
        entry,
        job=Derived(
            output=TensorInfo(name=name, dtype=torch.float32, shape=(1,)),
            operands=(base, job, *scaled),
            maker=MaskScale(),
        ),
        reason=f"by how much {job.expert_names[number]} multiplies them",
    )


def _rule(job: Merge) -> MaskRule:
    if job.method.spec.name == EMR:
        return MaskRule(threshold=0.0, signed=True)
    threshold = job.parameters["tall_lambda"]
    assert isinstance(threshold, int | float)
    return MaskRule(threshold=float(threshold), signed=False)
