"""What jobs cost, from headers alone: bytes to read, bytes to write, memory to work in."""

from collections.abc import Sequence

from omnicompose.merging.job import (
    Copy,
    Derived,
    Job,
    Merge,
    Node,
    TensorRef,
    needs_whole,
    references,
    survey_of,
    walk,
)
from omnicompose.tensors.pieces import PAGE_BYTES, PIECE_BYTES

FLOAT_BYTES = 4
SYSTEM_COPIES = 3
"""The sum of the Grams, one Gram on its way into it, and its factor."""


def bytes_read(job: Job) -> int:
    """Bytes that a job reads from its sources, every pass counted that sees it all."""
    total = 0
    for node in walk(job):
        if isinstance(node, TensorRef):
            total += node.info.num_bytes
        elif isinstance(node, Merge) and node.method.spec.num_passes > 1:
            survey = survey_of(node)
            num_passes = survey.num_passes - survey.num_sampled - survey.num_spare
            total += num_passes * sum(ref.info.num_bytes for ref in references(node))
    return total


def bytes_written(jobs: Sequence[Job]) -> int:
    """Tensor bytes of the output."""
    return sum(job.output.num_bytes for job in jobs)


def working_bytes(job: Job, tile_elements: int) -> int:
    """Memory for the buffers and temporaries of one job."""
    tile = min(job.output.num_elements, tile_elements)
    held = job.output.num_elements if needs_whole(job) else tile
    if isinstance(job, Derived):
        whole = max(operand.info.num_elements for operand in job.operands)
        held = whole if job.maker.whole else min(whole, tile * job.maker.elements_each)
    rounded = min(PAGE_BYTES + job.output.num_bytes, PIECE_BYTES)
    if isinstance(job, Copy):
        return rounded + tile * job.tensor.info.dtype.itemsize
    return rounded + FLOAT_BYTES * held + sum(_node_bytes(n, held, tile) for n in walk(job))


def _node_bytes(node: Node, held: int, tile: int) -> int:
    """Memory of one operand: its fp32 values, and what making them takes."""
    match node:
        case TensorRef():
            scratch = node.source.scratch_bytes(node.name, tile)
            return FLOAT_BYTES * held + tile * node.info.dtype.itemsize + scratch
        case Merge():
            # The result, a delta and a temporary per expert, and a sign, sum and count at most.
            collected = int(survey_of(node).collects * node.output.num_elements)
            # What is collected is copied whenever it grows.
            held_twice = 2 * FLOAT_BYTES * collected * len(node.experts)
            own = FLOAT_BYTES * held * (2 * len(node.experts) + 4)
            return own + held_twice + _measured_bytes(node, held)
        case _:
            return FLOAT_BYTES * held


def _measured_bytes(merge: Merge, held: int) -> int:
    """What Grams that are larger than their tensor take beyond it, and an fp64 system of them."""
    sizes = [measure.ref.info.num_elements for measure in merge.measures if measure is not None]
    if not needs_whole(merge) or not sizes:
        return 0
    beyond = sum(max(0, size - held) for size in sizes)
    return FLOAT_BYTES * beyond + SYSTEM_COPIES * 8 * max(sizes)
