"""Ask a benchmark's questions: in batches by length, resumable, the same whatever the workers.

The unit of work is a shard: a fixed run of samples, sorted by cluster, each with all its subsets.
A worker takes every w-th shard, encodes its media once, and cuts it into batches by length. Shards
and batches depend on nothing but the question set and the batch size; a resumed shard runs a batch
again as a whole and keeps the missing lines. So not one bit depends on the number of workers or on
where a run was killed, although a batched matrix product does depend on what else is in the batch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from omnicompose.errors import EvaluationError
from omnicompose.evaluation.answerer import Prepared, Unreadable
from omnicompose.evaluation.asking import Question, Run, make_questions, select, select_ids
from omnicompose.evaluation.controls import prepare_media
from omnicompose.evaluation.journal import best_lines, file_name, open_journal, read_lines
from omnicompose.evaluation.letters import best_letter
from omnicompose.evaluation.line import Line
from omnicompose.evaluation.progress import progress_bar
from omnicompose.evaluation.readings import understand
from omnicompose.evaluation.sample import Sample
from omnicompose.evaluation.task import Task

SHARD_SAMPLES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Which part of the work this process does.

    Attributes:
        rank: this worker, from 0.
        world_size: workers in all.
    """

    rank: int = 0
    world_size: int = 1


def run_task(task: Task, run: Run, share: Share) -> list[Line] | None:
    """Ask this worker's share of a benchmark.

    Returns:
        One line per question and way of asking, or None while other workers' lines are missing.
    """
    options = run.options
    media_dir = options.out_dir / "media"
    offered = task.samples(media_dir, options.limit)
    if options.ids is not None:
        offered = select_ids(offered, options.ids)
    chosen = select(offered, options.limit, options.seed)
    _check_scores(run, chosen)
    samples = prepare_media(chosen, options.modalities, media_dir, options.seed)
    shards = [
        make_questions(run, samples[start : start + SHARD_SAMPLES])
        for start in range(0, len(samples), SHARD_SAMPLES)
    ]
    journal = options.out_dir / "journal" / f"{file_name(run.spec.name)}.rank{share.rank}.jsonl"
    _ask_share(run, shards[share.rank :: share.world_size], journal, share)
    return _collect([q.blank.key for shard in shards for q in shard], journal.parent, run.spec.name)


def _ask_share(
    run: Run, shards: Sequence[Sequence[Question]], journal_path: Path, share: Share
) -> None:
    """Answer what no journal holds yet."""
    with (
        open_journal(journal_path) as journal,
        progress_bar(_bar_name(run, share), sum(map(len, shards))) as advance,
    ):
        done = _answered(journal_path.parent, run.spec.name)
        for shard in shards:
            pending = {question.blank.key for question in shard} - done
            advance(len(shard) - len(pending), 0)
            for lines in _ask_shard(run, shard, pending) if pending else ():
                missing = [line for line in lines if line.key in pending]
                journal.append(missing)
                advance(len(missing), sum(line.error is not None for line in missing))


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


def _collect(keys: Sequence[str], folder: Path, task: str) -> list[Line] | None:
    if len(set(keys)) < len(keys):
        raise EvaluationError(f"{task}: two questions have one key; sample ids must be unique.")
    lines = best_lines(_journal_lines(folder, task))
    return [lines[key] for key in keys] if all(key in lines for key in keys) else None


def _ask_shard(run: Run, shard: Sequence[Question], pending: set[str]) -> Iterator[list[Line]]:
    """The shard's lines, a batch at a time; batches without a pending question are left out."""
    prepared = run.answerer.prepare([question.prompt for question in shard])
    ready: list[tuple[Question, Prepared]] = []
    unreadable: list[Line] = []
    for question, outcome in zip(shard, prepared, strict=True):
        if isinstance(outcome, Unreadable):
            unreadable.append(question.blank.model_copy(update={"error": outcome.reason}))
        else:
            ready.append((question, outcome))
    yield unreadable
    for batch in _batches(ready, run.options.batch_size):
        if any(question.blank.key in pending for question, _ in batch):
            yield _ask_batch(run, batch)


def _batches(
    ready: Sequence[tuple[Question, Prepared]], batch_size: int
) -> Iterator[list[tuple[Question, Prepared]]]:
    """Batches of one score kind each, of prompts of like length."""
    for score in sorted({question.blank.score for question, _ in ready}):
        kind = [pair for pair in ready if pair[0].blank.score == score]
        kind.sort(key=lambda pair: (len(pair[1].token_ids), pair[0].blank.order))
        for start in range(0, len(kind), batch_size):
            yield kind[start : start + batch_size]


def _ask_batch(run: Run, batch: Sequence[tuple[Question, Prepared]]) -> list[Line]:
    lines = [
        question.blank.model_copy(update={"num_media_tokens": prepared.num_media_tokens})
        for question, prepared in batch
    ]
    prompts = [prepared for _, prepared in batch]
    if lines[0].score == "letter":
        num_letters = max(len(line.choices) for line in lines)
        scores = run.answerer.letter_log_likelihoods(prompts, num_letters)
        return [_with_letters(line, s) for line, s in zip(lines, scores, strict=True)]
    replies = run.answerer.generate(prompts, run.spec.max_new_tokens)
    return [_with_reply(line, reply) for line, reply in zip(lines, replies, strict=True)]


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
