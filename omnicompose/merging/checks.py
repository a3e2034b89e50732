"""Whether jobs can be computed at all, from headers alone; every problem is reported at once."""

from collections.abc import Iterator, Sequence

import torch

from omnicompose.errors import MergeError
from omnicompose.merging.job import (
    Copy,
    Derived,
    Difference,
    Factors,
    Fill,
    Job,
    Merge,
    Node,
    Operand,
    Part,
    Rows,
    TensorRef,
    walk,
)
from omnicompose.tensors.source import TensorInfo

MOST_SHOWN = 20


def check_jobs(jobs: Sequence[Job]) -> None:
    """Refuse jobs that do not fit their inputs.

    Raises:
        MergeError: naming tensor, source, what was found and what was expected.
    """
    problems = [problem for job in jobs for problem in _problems(job)]
    if problems:
        shown = problems[:MOST_SHOWN]
        if len(problems) > len(shown):
            shown.append(f"... and {len(problems) - len(shown)} more")
        raise MergeError("\n".join(shown))


def _problems(job: Job) -> Iterator[str]:
    if job.output.dtype == torch.float64 and not isinstance(job, Copy):
        yield (
            f"tensor '{job.output.name}': found float64, of which merging keeps float32: it "
            "computes in that. Say so in the recipe, `dtype: float32`, or leave the tensor out."
        )
    for node in walk(job):
        yield from _node_problems(node, job.output)


def _node_problems(node: Node, output: TensorInfo) -> Iterator[str]:
    match node:
        case Merge():
            yield from _merge_problems(node)
        case Part() if node.merge.method.spec.output != "bundle":
            name = node.merge.method.spec.name
            yield f"tensor '{output.name}': method {name} gives no parts; choose emr."
        case Copy():
            yield from _other_shape(node.tensor, output)
        case Difference():
            for operand in (node.minuend, node.subtrahend):
                yield from _other_shape(operand, output)
        case Derived():
            for operand in node.operands[1:]:
                yield from _other_shape(operand, node.operands[0].info)
        case Rows():
            yield from _row_problems(node)
        case Factors():
            yield from _factor_problems(node)
        case TensorRef() if node.info.dtype.is_complex:
            yield f"{_of(node)}: found complex numbers; expected real ones. Leave the tensor out."
        case _:
            pass


def _merge_problems(merge: Merge) -> Iterator[str]:
    spec, where = (
        merge.method.spec,
        f"tensor '{merge.output.name}': method {merge.method.spec.name}",
    )
    found, (least, most) = len(merge.experts), spec.arity
    if not len(merge.expert_names) == len(merge.weights) == found:
        names, weights = len(merge.expert_names), len(merge.weights)
        yield f"{where}: found {found} experts, {names} names and {weights} weights; give as many."
    if found < least or (most is not None and found > most):
        wanted = f"{least}" if most == least else f"{least} to {most or 'any number'}"
        yield f"{where}: found {found} experts; expected {wanted}. Choose another method."
    if spec.needs_base and merge.base is None:
        yield f"{where}: found no base, which it needs. Name the experts' common base."
    if not merge.output.dtype.is_floating_point:
        yield f"{where}: found output dtype {merge.output.dtype}; only real numbers can be merged."
    for operand in (*merge.experts, *(() if merge.base is None else (merge.base,))):
        yield from _other_shape(operand, merge.output)
        if not operand.info.dtype.is_floating_point:
            yield f"{_of(operand)}: found {operand.info.dtype}; expected floating point. Copy it."


def _other_shape(operand: Operand, output: TensorInfo) -> Iterator[str]:
    if operand.info.shape != output.shape:
        yield (
            f"{_of(operand)}: found shape {list(operand.info.shape)}; expected "
            f"{list(output.shape)} for '{output.name}'. Give models of one architecture."
        )


def _row_problems(job: Rows) -> Iterator[str]:
    rows = 0
    for piece in job.pieces:
        inner = piece.mean_of if isinstance(piece, Fill) else piece
        rows += piece.num_rows if isinstance(piece, Fill) else piece.info.shape[0]
        if inner is not None and inner.info.shape[1:] != job.output.shape[1:]:
            found, expected = list(inner.info.shape[1:]), list(job.output.shape[1:])
            yield f"{_of(inner)}: found rows of shape {found}; expected {expected}."
    if rows != job.output.shape[0]:
        expected_rows = job.output.shape[0]
        yield f"tensor '{job.output.name}': found {rows} rows; expected {expected_rows}."


def _factor_problems(job: Factors) -> Iterator[str]:
    axis, shape = job.axis, job.output.shape
    infos = [piece.tensor.info for piece in job.pieces]
    for piece, info in zip(job.pieces, infos, strict=True):
        if len(info.shape) != 2 or info.shape[1 - axis] != shape[1 - axis]:
            yield f"{_of(piece.tensor)}: found {list(info.shape)}; expected {list(shape)} by rank."
    ranks = sum(info.shape[axis] for info in infos if len(info.shape) == 2)
    if ranks > shape[axis]:
        found, expected = f"ranks of {ranks} in all", f"{shape[axis]} at most"
        yield f"tensor '{job.output.name}': found {found}; expected {expected}."


def _of(operand: Operand) -> str:
    if isinstance(operand, TensorRef):
        return f"{operand.source.label}: tensor '{operand.name}'"
    return f"tensor '{operand.info.name}'"
