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
    """One sample, asked with one subset of its media, scored in one way.

    Attributes:
        prompt: what the model reads.
        blank: its line, still without an answer.
    """

    prompt: Prompt
    blank: Line


def select(samples: Sequence[Sample], limit: int | None, seed: int) -> list[Sample]:
    """At most `limit` samples per set of modalities, drawn by `seed`, sorted by cluster and id.

    Raises:
        EvaluationError: two samples share an id, or there is none.
    """
    if not samples or len({sample.id for sample in samples}) < len(samples):
        found = "no question" if not samples else "two questions of one id"
        raise EvaluationError(f"the task holds {found}; check where its data come from.")
    groups: dict[tuple[str, ...], list[Sample]] = {}
    for sample in sorted(samples, key=lambda s: s.id):
        groups.setdefault(sample.modalities, []).append(sample)
    chosen: list[Sample] = []
    for modalities in sorted(groups):
        order = np.random.default_rng(seed).permutation(len(groups[modalities]))
        chosen += [groups[modalities][i] for i in order[:limit]]
    return sorted(chosen, key=lambda s: (s.cluster, s.id))


def make_questions(run: Run, samples: Sequence[Sample]) -> list[Question]:
    """Every sample in every way that it is asked."""
    ways = [(s, subset) for s in samples for subset in subsets_of(s, run.options.modalities)]
    contents = [view(sample, subset) for sample, subset in ways]
    texts = run.answerer.render(contents)
    prompts = [
        Prompt(content=content, text=text, openings=sample.openings)
        for (sample, _), content, text in zip(ways, contents, texts, strict=True)
    ]
    return [
        Question(prompt=prompt, blank=_blank_line(run, way, prompt, score))
        for way, prompt in zip(ways, prompts, strict=True)
        for score in run.options.scores
    ]


def _blank_line(run: Run, way: tuple[Sample, Subset], prompt: Prompt, score: ScoreKind) -> Line:
    (sample, subset), spec = way, run.spec
    return Line(
        key=content_key(
            model=(run.answerer.digest, run.answerer.dtype),
            question=(spec.name, spec.version, sample.id, subset.label),
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
