"""From samples to questions: which are asked, in which ways, and under which cache key."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from omnicompose.errors import EvaluationError
from omnicompose.evaluation.answerer import Answerer, Prompt
from omnicompose.evaluation.line import Line, MediumRecord, ScoreKind, content_key
from omnicompose.evaluation.options import EvaluationOptions
from omnicompose.evaluation.sample import Medium, Sample
from omnicompose.evaluation.subsets import Subset, subsets_of, view
from omnicompose.evaluation.task import TaskSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What stays the same for all questions of one task.

    Attributes:
        spec: the benchmark.
        answerer: the model.
        options: how to ask.
    """

    spec: TaskSpec
    answerer: Answerer
    options: EvaluationOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One sample, asked with one subset of its media.

    Attributes:
        prompt: what the model reads.
        blanks: its lines, one for each kind of score, still without an answer.
    """

    prompt: Prompt
    blanks: tuple[Line, ...]


def select(samples: Sequence[Sample], options: EvaluationOptions) -> list[Sample]:
    """The samples that `options.limit` leaves of each set of modalities, sorted by cluster and id.

    Raises:
        EvaluationError: two samples share an id, or there is none.
    """
    if not samples or len({sample.id for sample in samples}) < len(samples):
        found = "no question" if not samples else "two questions of one id"
        raise EvaluationError(f"the task holds {found}; check where its data come from.")
    groups: dict[tuple[str, ...], list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.modalities, []).append(sample)
    chosen = [sample for group in groups.values() for sample in _some(group, options)]
    return sorted(chosen, key=lambda s: (s.cluster, s.id))


def _some(group: Sequence[Sample], options: EvaluationOptions) -> list[Sample]:
    if options.limit_order == "file":
        return list(group[: options.kept(len(group))])
    group = sorted(group, key=lambda s: s.id)
    order = np.random.default_rng(options.seed).permutation(len(group))
    return [group[i] for i in order[: options.kept(len(group))]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """One way to ask a sample; the fields are those of `Line`, options in their places."""

    sample: Sample
    subset: Subset
    rotation: int


def select_ids(samples: Sequence[Sample], ids: Sequence[str]) -> list[Sample]:
    """The samples of these ids.

    Raises:
        EvaluationError: the task has no such question.
    """
    known = {sample.id: sample for sample in samples}
    if unknown := [i for i in ids if i not in known]:
        raise EvaluationError(
            f"--samples: {len(unknown)} ids are not the task's, the first is {unknown[0]!r}; "
            "expected ids as samples_TASK.jsonl names them."
        )
    return [known[i] for i in dict.fromkeys(ids)]


def count_lines(sample: Sample, options: EvaluationOptions) -> int:
    """How many lines `make_questions` makes of a sample."""
    scores = [score for score in options.scores if score != "letter" or sample.has_letter_score]
    return len(scores) * _turns(sample, options) * len(subsets_of(sample, options.modalities))


def make_questions(run: Run, samples: Sequence[Sample]) -> list[Question]:
    """Every sample in every way that it is asked."""
    ways = [way for sample in samples for way in _ways(sample, run.options)]
    contents = [view(way.sample, way.subset) for way in ways]
    texts = run.answerer.render(contents)
    prompts = [
        Prompt(content=content, text=text, openings=way.sample.openings)
        for way, content, text in zip(ways, contents, texts, strict=True)
    ]
    questions = [
        Question(prompt=prompt, blanks=_blank_lines(run, way, prompt))
        for way, prompt in zip(ways, prompts, strict=True)
    ]
    return [question for question in questions if question.blanks]


def _ways(sample: Sample, options: EvaluationOptions) -> list[_Way]:
    turns, subsets = _turns(sample, options), subsets_of(sample, options.modalities)
    return [
        _Way(sample=sample.rotated(turn) if turn else sample, subset=subset, rotation=turn)
        for turn in range(turns)
        for subset in subsets
    ]


def _turns(sample: Sample, options: EvaluationOptions) -> int:
    return min(options.rotations, len(sample.choices)) if sample.can_rotate else 1


def _blank_lines(run: Run, way: _Way, prompt: Prompt) -> tuple[Line, ...]:
    return tuple(
        _blank_line(run, way, prompt, score)
        for score in run.options.scores
        if score != "letter" or way.sample.has_letter_score
    )


def _blank_line(run: Run, way: _Way, prompt: Prompt, score: ScoreKind) -> Line:
    sample, subset, spec = way.sample, way.subset, run.spec
    return Line(
        key=content_key(
            model=(run.answerer.digest, run.answerer.dtype),
            question=(spec.name, spec.version, sample.id, subset.label, way.rotation),
            prompt_sha256=prompt.sha256,
            media=prompt.media,
            openings=prompt.openings,
            score=(score, spec.max_new_tokens if score == "generate" else 0),
        ),
        task=spec.name,
        task_version=spec.version,
        id=sample.id,
        cluster=sample.cluster,
        group="+".join(sample.modalities) or "none",
        subset=subset.label,
        rotation=way.rotation,
        category=sample.category,
        reading=sample.reading,
        score=score,
        question="".join(part for part in prompt.content if isinstance(part, str)),
        media=tuple(_record(medium, run.options.out_dir) for medium in prompt.media),
        num_media_tokens={},
        prompt_sha256=prompt.sha256,
        choices=sample.choices,
        target=sample.target,
    )


@cache
def _record(medium: Medium, out_dir: Path) -> MediumRecord:
    """Media inside the results folder are named relative to it, so that the folder can move."""
    inside = medium.path.is_relative_to(out_dir)
    uri = medium.path.relative_to(out_dir) if inside else medium.path
    return MediumRecord(modality=medium.modality, uri=uri.as_posix(), sha256=medium.sha256)
