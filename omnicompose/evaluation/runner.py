"""Ask a benchmark's questions: in batches by length, resumable, the same whatever the workers.

The unit of work is a shard: a fixed run of samples, sorted by cluster, each with all its subsets.
A worker takes every w-th shard, encodes its media once, and cuts it into batches by length. Shards
and batches depend on nothing but the question set and the batch size; a resumed shard runs a batch
again as a whole and keeps the missing lines. So not one bit depends on the number of workers or on
where a run was killed, although a batched matrix product does depend on what else is in the batch.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from omnicompose.errors import EvaluationError
from omnicompose.evaluation.answerer import Prepared, Unreadable
from omnicompose.evaluation.asking import (
    Question,
    Run,
    count_lines,
    make_questions,
    select,
    select_ids,
)
from omnicompose.evaluation.controls import prepare_media
from omnicompose.evaluation.journal import (
    Journal,
    best_lines,
    file_name,
    open_journal,
    read_lines,
)
from omnicompose.evaluation.letters import best_letter
from omnicompose.evaluation.line import Line, ScoreKind
from omnicompose.evaluation.progress import Advance, progress_bar
from omnicompose.evaluation.readings import understand
from omnicompose.evaluation.sample import Sample
from omnicompose.evaluation.task import Task

LOGGER = logging.getLogger(__name__)
SHARD_SAMPLES = 64
Asked = tuple[Question, Prepared]


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Which part of the work this process does.

    Attributes:
        rank: this worker, from 0.
        world_size: workers in all.
    """

    rank: int = 0
    world_size: int = 1


def run_task(task: Task, run: Run, share: Share) -> list[str]:
    """Ask this worker's share of a benchmark.

    Returns:
        Keys of all lines that make the benchmark complete, other workers' among them.
    """
    options, media_dir = run.options, run.options.out_dir / "media"
    chosen = _choose(task, run, media_dir)
    samples = prepare_media(chosen, options.modalities, media_dir, options.seed)
    starts = range(0, len(samples), SHARD_SAMPLES)
    keys = _ask_share(run, [samples[start : start + SHARD_SAMPLES] for start in starts], share)
    if len(set(keys)) < len(keys):
        raise EvaluationError(f"{run.spec.name}: two questions have one key; ids must be unique.")
    return keys


def _choose(task: Task, run: Run, media_dir: Path) -> list[Sample]:
    """The samples that the options leave, if anything can be asked about them."""
    options = run.options
    offered = task.samples(media_dir, options.most_drawn)
    if options.ids is not None:
        offered = select_ids(offered, options.ids)
    chosen = select(offered, options)
    _check_scores(run, chosen)
    if not any(count_lines(sample, options) for sample in chosen):
        shown = sorted({"+".join(sample.modalities) for sample in chosen})
        raise EvaluationError(
            f"{run.spec.name}: no question can be asked with --modalities "
            f"{','.join(options.modalities)}; its questions show {', '.join(shown)}. "
            "Choose among these."
        )
    return chosen


def collect(keys: Sequence[str], out_dir: Path, task: str) -> list[Line] | None:
    """The lines of these keys from all workers' journals; None while some are missing."""
    lines = best_lines(_journal_lines(out_dir / "journal", task))
    return [lines[key] for key in keys] if all(key in lines for key in keys) else None


def _ask_share(run: Run, shards: Sequence[Sequence[Sample]], share: Share) -> list[str]:
    """Answer what no journal holds yet of every w-th shard; keys of all shards."""
    folder, name = run.options.out_dir / "journal", file_name(run.spec.name)
    ours = range(share.rank, len(shards), share.world_size)
    total = sum(count_lines(sample, run.options) for i in ours for sample in shards[i])
    keys: list[str] = []
    with (
        open_journal(folder / f"{name}.rank{share.rank}.jsonl") as journal,
        progress_bar(_bar_name(run, share), total) as advance,
    ):
        done = _answered(folder, run.spec.name)
        for number, shard in enumerate(shards):
            questions = make_questions(run, shard)
            keys += _keys(questions)
            if number in ours:
                pending = set(_keys(questions)) - done
                advance(len(_keys(questions)) - len(pending), 0, 0)
                for lines in _ask_shard(run, questions, pending) if pending else ():
                    _record([line for line in lines if line.key in pending], journal, advance)
    return keys


def _record(lines: Sequence[Line], journal: Journal, advance: Advance) -> None:
    journal.append(lines)
    errors = sum(line.error is not None for line in lines)
    advance(len(lines), errors, sum(line.answer is None for line in lines) - errors)


def _bar_name(run: Run, share: Share) -> str:
    """The first worker alone draws its bar; none for the others."""
    if share.world_size == 1:
        return run.spec.name
    return f"{run.spec.name}, worker 1 of {share.world_size}" if share.rank == 0 else ""


def _answered(folder: Path, task: str) -> set[str]:
    """Keys of all workers' answers; errors are not among them and so are tried again."""
    return {line.key for line in _journal_lines(folder, task) if line.error is None}


def _journal_lines(folder: Path, task: str) -> list[Line]:
    paths = sorted(folder.glob(f"{file_name(task)}.rank*.jsonl"))
    return [line for path in paths for line in read_lines(path)]


def _keys(shard: Sequence[Question]) -> list[str]:
    return [blank.key for question in shard for blank in question.blanks]


def _ask_shard(run: Run, shard: Sequence[Question], pending: set[str]) -> Iterator[list[Line]]:
    """The shard's lines, a batch at a time; batches without a pending line are left out."""
    prepared = run.answerer.prepare([question.prompt for question in shard])
    ready: list[Asked] = []
    unreadable: list[Line] = []
    for question, outcome in zip(shard, prepared, strict=True):
        if isinstance(outcome, Unreadable):
            lines = [
                blank.model_copy(update={"error": outcome.reason}) for blank in question.blanks
            ]
            unreadable += lines
        else:
            ready.append((question, outcome))
    yield unreadable
    for batch in _batches(ready, run.options.most_at_once):
        lines = [line for question, _ in batch for line in question.blanks]
        if kinds := {line.score for line in lines if line.key in pending}:
            yield _ask_what_fits(run, batch, kinds)


def _batches(ready: Sequence[Asked], batch_size: int) -> Iterator[list[Asked]]:
    """Batches scored in the same ways, of prompts of like length."""
    by_scores: dict[tuple[ScoreKind, ...], list[Asked]] = {}
    for question, prepared in ready:
        scores = tuple(line.score for line in question.blanks)
        by_scores.setdefault(scores, []).append((question, prepared))
    for scores in sorted(by_scores):
        alike = by_scores[scores]
        alike.sort(key=lambda pair: (len(pair[1].token_ids), pair[0].blanks[0].order))
        for start in range(0, len(alike), batch_size):
            yield alike[start : start + batch_size]


def _ask_what_fits(run: Run, batch: Sequence[Asked], kinds: set[ScoreKind]) -> list[Line]:
    """As `_ask_batch`; with `batch_size=auto` in halves where memory runs out."""
    try:
        return _ask_batch(run, batch, kinds)
    except MemoryError as err:
        if run.options.batch_size != "auto" or len(batch) == 1:
            raise EvaluationError(
                f"{run.spec.name}: memory ran out with {len(batch)} questions at once ({err}). "
                "What was answered is kept: run again with --batch_size auto or a smaller one."
            ) from err
    half = len(batch) // 2
    LOGGER.warning("%s: memory ran out; asking %d questions at once", run.spec.name, half)
    return [
        line for part in (batch[:half], batch[half:]) for line in _ask_what_fits(run, part, kinds)
    ]


def _ask_batch(run: Run, batch: Sequence[Asked], kinds: set[ScoreKind]) -> list[Line]:
    """The batch's lines of these kinds; both kinds are read from one pass over the prompts."""
    prompts = [prepared for _, prepared in batch]
    num_letters = max(len(line.choices) for question, _ in batch for line in question.blanks)
    letters: Sequence[tuple[float, ...] | None] = [None] * len(batch)
    replies: Sequence[str | None] = [None] * len(batch)
    if len(kinds) > 1:
        both = run.answerer.answer(prompts, num_letters, run.spec.max_new_tokens)
        letters, replies = zip(*both, strict=True)
    elif "letter" in kinds:
        letters = run.answerer.letter_log_likelihoods(prompts, num_letters)
    else:
        replies = run.answerer.generate(prompts, run.spec.max_new_tokens)
    return [
        _answered_line(blank.model_copy(update={"num_media_tokens": p.num_media_tokens}), s, reply)
        for (question, p), s, reply in zip(batch, letters, replies, strict=True)
        for blank in question.blanks
        if blank.score in kinds
    ]


def _answered_line(blank: Line, letters: tuple[float, ...] | None, reply: str | None) -> Line:
    if blank.score == "letter":
        return _with_letters(blank, letters or ())
    return _with_reply(blank, reply or "")


def _with_letters(line: Line, scores: tuple[float, ...]) -> Line:
    log_likelihoods = scores[: len(line.choices)]
    answer = best_letter(log_likelihoods)
    return line.model_copy(
        update={
            "log_likelihoods": log_likelihoods,
            "answer": answer,
            "rule": "likelihood",
            "correct": int(answer == line.target),
        }
    )


def _with_reply(line: Line, reply: str) -> Line:
    answer, rule, correct = understand(reply, line.choices, line.target, line.reading)
    update = {"reply": reply, "answer": answer, "rule": rule, "correct": correct}
    return line.model_copy(update=update)


def _check_scores(run: Run, samples: Sequence[Sample]) -> None:
    if "generate" not in run.options.scores and not any(s.has_letter_score for s in samples):
        raise EvaluationError(
            f"{run.spec.name}: its answers are words, not letters, so --score letter asks nothing; "
            "add generate to --score."
        )
