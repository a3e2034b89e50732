"""Compute pieces of a finished output once more, and hold them against what was written."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from omnicompose.merging.cost import bytes_read, bytes_written
from omnicompose.merging.evaluation import Evaluator
from omnicompose.merging.finite import index_in
from omnicompose.merging.job import Copy, Job, merges, needs_whole, survey_of
from omnicompose.merging.options import EngineOptions, thread_count
from omnicompose.merging.parallel import Pool
from omnicompose.merging.statistics import Statistics
from omnicompose.merging.survey import survey_model
from omnicompose.merging.workspace import MemoryBudget, Workspace
from omnicompose.tensors.source import TensorSource, read_tensor

ROWS_PER_TENSOR = 4
SMALL_ELEMENTS = 1 << 16
"""Tensors up to this size are computed again as a whole."""
COSTLY_BYTES = 2 * 1024**3
"""Tensors that must be read whole before one row is known are sampled up to so many bytes."""
NOISE = 1e-5
"""Of the largest magnitude at hand: how far fp32 arithmetic of two machines may lie apart."""
BORDERLINE_SHARE = 0.01
"""Of entries that such noise may push over the border between two numbers of the output dtype."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Flat elements `start .. start + count` of one output tensor."""

    job: Job
    start: int
    count: int


def sample(jobs: Sequence[Job], seed: str, costly_bytes: int | None) -> list[Span]:
    """The pieces to compute again: the same for the same seed.

    Some rows of every tensor whose rows can be computed alone. Of the others a choice of tensors,
    as many as may be read for `costly_bytes` (None: all of them; one at least).

    Args:
        jobs: of a plan.
        seed: any text; the choice depends on it and on the tensors' names alone.
        costly_bytes: limit of what is read for tensors that are needed whole.
    """
    left, chosen = costly_bytes, []
    for job in sorted(jobs, key=lambda job: _draw(seed, job.output.name, "")):
        if not job.output.num_elements:
            continue
        if not _costly(job):
            chosen.append(job)
        elif left is None or left > 0:
            chosen.append(job)
            left = None if left is None else left - bytes_read(job)
    return [span for job in chosen for span in _spans(job, seed)]


def _costly(job: Job) -> bool:
    return needs_whole(job) or any(survey_of(merge).num_passes for merge in merges(job))


def _spans(job: Job, seed: str) -> list[Span]:
    size = job.output.num_elements
    if size <= SMALL_ELEMENTS or len(job.output.shape) < 2 or needs_whole(job):
        return [Span(job=job, start=0, count=size)]
    rows = job.output.shape[0]
    width = size // rows
    drawn = (_draw(seed, job.output.name, str(k)) % rows for k in range(ROWS_PER_TENSOR))
    return [Span(job=job, start=row * width, count=width) for row in sorted(set(drawn))]


def _draw(seed: str, name: str, number: str) -> int:
    text = "\0".join((seed, name, number))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def differences(
    jobs: Sequence[Job], spans: Sequence[Span], written: TensorSource, options: EngineOptions
) -> Iterator[str]:
    """Where the written tensors are not what their inputs give, one message per tensor.

    Args:
        jobs: all of the plan: statistics of the whole model span them.
        spans: what to compute again.
        written: the finished output.
        options: how to compute.

    Raises:
        SourceError: an input cannot be read.
        MergeError: an input is not what the jobs expect.
    """
    sampled = {span.job.output.name: span.job for span in spans}
    known = _surveyed(jobs, options) if any(map(_spans_model, sampled.values())) else {}
    workspace = Workspace(torch.device(options.device))
    evaluator = _evaluator(workspace, options)
    for name, job in sampled.items():
        own = [span for span in spans if span.job is job]
        if not isinstance(job, Copy):
            evaluator.begin(job, known)
        for span in own:
            expected = _expected(span, evaluator)
            found = read_tensor(written, name, span.start, span.start + span.count)
            wrong = first_difference(found, expected)
            if wrong is not None:
                yield _message(span, wrong, found, expected)
                break
        evaluator.end()


def _spans_model(job: Job) -> bool:
    surveys = (survey_of(merge) for merge in merges(job))
    return any(survey.num_passes and survey.scope == "model" for survey in surveys)


def _message(span: Span, wrong: int, found: torch.Tensor, expected: torch.Tensor) -> str:
    output = span.job.output
    return (
        f"tensor '{output.name}': found {found[wrong].item()} at index "
        f"{index_in(output.shape, span.start + wrong)}; expected {expected[wrong].item()}, "
        "computed from the inputs again."
    )


def _expected(span: Span, evaluator: Evaluator) -> torch.Tensor:
    job = span.job
    if not isinstance(job, Copy):
        values = evaluator.values(job, span.start, span.count)
        return values.to(device="cpu", dtype=job.output.dtype)
    start = job.tensor.start + span.start
    stored = read_tensor(job.tensor.source, job.tensor.name, start, start + span.count)
    return stored.to(job.output.dtype)


def _evaluator(workspace: Workspace, options: EngineOptions) -> Evaluator:
    return Evaluator(
        workspace,
        options.tile_elements,
        allow_nonfinite=options.allow_nonfinite,
        device=torch.device(options.device),
    )


def _surveyed(jobs: Sequence[Job], options: EngineOptions) -> Mapping[int, Statistics]:
    num_threads = thread_count(options, bytes_written(jobs))
    pool = Pool(num_threads, MemoryBudget(options.memory_bytes))

    def make_evaluator() -> Evaluator:
        return _evaluator(Workspace(torch.device(options.device)), options)

    return survey_model(jobs, pool, make_evaluator, options.tile_elements, None)


def first_difference(found: torch.Tensor, expected: torch.Tensor) -> int | None:
    """The first element of two equal-sized tensors that rounding cannot explain, or None.

    Args:
        found: flat, of the output's dtype.
        expected: likewise; computed here, perhaps on another processor.
    """
    if not found.dtype.is_floating_point:
        differing = (found != expected).nonzero()
        return int(differing[0]) if differing.numel() else None
    ours, theirs = expected.double(), found.double()
    off = ~torch.isclose(theirs, ours, rtol=0.0, atol=0.0, equal_nan=True)
    largest = float(ours[ours.isfinite()].abs().max()) if ours.isfinite().any() else 0.0
    distance = (theirs - ours).abs()
    step = torch.finfo(found.dtype).eps * torch.maximum(theirs.abs(), ours.abs())
    off &= ~(distance <= NOISE * largest)
    wrong = off & ~(distance <= step)
    if int((off & ~wrong).sum()) > max(1, int(BORDERLINE_SHARE * off.numel())):
        wrong = off
    return int(wrong.nonzero()[0]) if bool(wrong.any()) else None
