"""Small tensors that are merged alike and lie side by side are merged as one long tensor.

A method with compiled loops looks at numbers alone, never at the role of a tensor, nor, unless it
draws random numbers, at its name; what it may be given tile by tile it may also be given end to
end. Merging ten thousand small tensors one by one costs far more than their arithmetic.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from omnicompose.merging.fused import fused_method, operands
from omnicompose.merging.job import Job, Merge, TensorRef, survey_of
from omnicompose.tensors.low_rank import LowRank
from omnicompose.tensors.source import ByteRange, TensorInfo
from omnicompose.tensors.writer import Place

NAME = "joint"


@dataclass(frozen=True, slots=True, kw_only=True)
class EndToEnd:
    """A `TensorSource` with one flat tensor: those of some references, one after the other."""

    refs: tuple[TensorRef, ...]
    info: TensorInfo

    @property
    def label(self) -> str:
        """Where the first one is from."""
        return self.refs[0].source.label

    def infos(self) -> Mapping[str, TensorInfo]:
        """The one tensor."""
        return {NAME: self.info}

    def read_into(self, name: str, start: int, out: torch.Tensor) -> None:
        """Fill `out` with elements from `start` on.

        Raises:
            SourceError: one of the sources cannot be read.
        """
        first, filled = 0, 0
        for ref in self.refs:
            size = ref.info.num_elements
            begin, end = max(start, first), min(start + out.numel(), first + size)
            if begin < end:
                part = out[filled : filled + end - begin]
                ref.source.read_into(ref.name, ref.start + begin - first, part)
                filled += end - begin
            first += size

    def byte_range(self, name: str) -> ByteRange | None:
        """None: it lies in many places."""
        return None

    def factors(self, name: str) -> LowRank | None:
        """None: it knows no base."""
        return None

    def scratch_bytes(self, name: str, num_elements: int) -> int:
        """What the greediest of the sources takes."""
        return max(ref.source.scratch_bytes(ref.name, num_elements) for ref in self.refs)

    def files(self) -> tuple[Path, ...]:
        """None of its own: the jobs that are joined name theirs."""
        return ()


def runs(jobs: Sequence[Job], places: Mapping[str, Place]) -> Iterator[list[Job]]:
    """The jobs in order, those that can be computed as one together."""
    run: list[Job] = []
    for job in jobs:
        if run and not _continues(run[-1], job, places):
            yield run
            run = []
        run.append(job)
    if run:
        yield run


def _continues(last: Job, job: Job, places: Mapping[str, Place]) -> bool:
    if not (isinstance(last, Merge) and isinstance(job, Merge)):
        return False
    before, here = places[last.output.name], places[job.output.name]
    return (
        before.file == here.file
        and before.offset + before.num_bytes == here.offset
        and last.method is job.method
        and (last.weights, last.expert_names) == (job.weights, job.expert_names)
        and (last.parameters, last.output.dtype) == (job.parameters, job.output.dtype)
        and (last.base is None) == (job.base is None)
        and not job.method.spec.stochastic
        and survey_of(job).num_passes == 0
        and fused_method(last) is not None
        and fused_method(job) is not None
    )


def as_one(run: Sequence[Job]) -> Merge:
    """The merge of a run of several, as one flat tensor under the name of the first."""
    members = [job for job in run if isinstance(job, Merge)]
    size = sum(job.output.num_elements for job in members)
    output = TensorInfo(name=members[0].output.name, dtype=members[0].output.dtype, shape=(size,))
    info = replace(output, name=NAME)
    columns = zip(*(operands(job) for job in members), strict=True)
    joined = [TensorRef(source=EndToEnd(refs=refs, info=info), name=NAME) for refs in columns]
    based = len(joined) > len(members[0].experts)
    return replace(
        members[0],
        output=output,
        base=joined[0] if based else None,
        experts=tuple(joined[based:]),
    )
