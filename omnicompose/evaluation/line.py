"""One line per question on disk: the only truth, from which every number is computed again."""

import hashlib
import json
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from omnicompose.evaluation.sample import Medium, Reading

ScoreKind = Literal["letter", "generate"]
PROTOCOL_VERSION = 2
"""Raised whenever the same key would no longer mean the same answer; part of every key."""


class MediumRecord(BaseModel):
    """A medium as a line names it; `uri` is relative to the results folder where it lies inside."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    modality: str
    uri: str
    sha256: str


class Line(BaseModel):
    """One question asked in one way, and what came back.

    Attributes:
        key: digest of all that the answer depends on (`content_key`).
        task: the benchmark's name.
        task_version: its version.
        id: the question's id within the benchmark.
        cluster: questions with the same value are not independent.
        group: modalities that the whole question shows, `image+audio+video`.
        subset: what is given this time, a label of `subsets.Subset`.
        rotation: by how many places the options were moved up.
        category: the benchmark's own kind of question; empty without.
        reading: how a generated reply is understood, see `readings`.
        score: `letter` (log-likelihoods) or `generate` (greedy reply, parsed).
        question: the text given, captions included.
        media: the media given, in order.
        num_media_tokens: LLM positions that each modality took.
        prompt_sha256: digest of the exact prompt, placeholders unexpanded.
        choices: the options in the order of their letters.
        target: label of the right option: its letter, or its words where letters run out.
        log_likelihoods: natural log of each letter's probability as the next token, among the
            whole vocabulary; None unless `letter`.
        reply: what was generated; None unless `generate`.
        answer: label of the option chosen; None if the reply could not be read.
        rule: how it was found: `likelihood` or a rule of `readings`.
        correct: 1 right, 0 wrong, a grade between for a caption; None only for an error.
        error: why the question could not be asked; it then counts neither right nor wrong.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    task: str
    task_version: int
    id: str
    cluster: str
    group: str
    subset: str
    rotation: int = 0
    category: str = ""
    reading: Reading = "letters"
    score: ScoreKind
    question: str
    media: tuple[MediumRecord, ...]
    num_media_tokens: dict[str, int]
    prompt_sha256: str
    choices: tuple[str, ...]
    target: str
    log_likelihoods: tuple[float, ...] | None = None
    reply: str | None = None
    answer: str | None = None
    rule: str | None = None
    correct: int | float | None = None
    error: str | None = None

    @property
    def order(self) -> tuple[str, str, str, int]:
        """Lines of a task are sorted by this, and no two share it."""
        return self.id, self.subset, self.score, self.rotation


def text_sha256(text: str) -> str:
    """Hex digest of a text's UTF-8 bytes."""
    return hashlib.sha256(text.encode()).hexdigest()


def content_key(
    *,
    model: tuple[str, str],
    question: tuple[str, int, str, str, int],
    prompt_sha256: str,
    media: Sequence[Medium],
    openings: Sequence[str],
    score: tuple[str, int],
) -> str:
    """Digest of all that an answer depends on: never a path, never the batch size.

    Args:
        model: digest of the exported folder, dtype of the computation.
        question: task, its version, sample id, subset label, rotation of the options.
        prompt_sha256: of the rendered prompt.
        media: what is shown, in order.
        openings: how replies begin, where not with a letter.
        score: kind, and the greatest number of generated tokens (0 for letters).
    """
    shown = [(medium.modality, medium.sha256) for medium in media]
    facts = [PROTOCOL_VERSION, *model, *question, prompt_sha256, shown, [*openings], *score]
    return text_sha256(json.dumps(facts, ensure_ascii=True, separators=(",", ":")))
