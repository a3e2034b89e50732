"""The public functions: load a folder, ask, write; and the same for one worker of several."""

import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from omnicompose.errors import EvaluationError, clear_about_disk
from omnicompose.evaluation.answerer import Answerer
from omnicompose.evaluation.asking import Run
from omnicompose.evaluation.journal import write_atomically, write_merged
from omnicompose.evaluation.options import EvaluationOptions
from omnicompose.evaluation.results import ModelFacts, Results, RunFacts
from omnicompose.evaluation.runner import Share, collect, run_task
from omnicompose.evaluation.scoring import RUN_NAME, read_run, samples_path, score, to_json
from omnicompose.evaluation.task import Task
from omnicompose.evaluation.tasks import find_tasks
from omnicompose.evaluation.tasks.files import FileTask

PACKAGES = ("omnicompose", "torch", "transformers", "numpy")


def evaluate(model_dir: Path, tasks: Sequence[str], options: EvaluationOptions) -> Results:
    """Ask a composite the questions of some benchmarks, and write everything to `options.out_dir`.

    Goes on where an earlier call with the same folder was interrupted. Never asks again what the
    same model (by content) was asked before.

    Args:
        model_dir: what `omnicompose compose` wrote.
        tasks: names from `TASKS`.
        options: how to ask.

    Raises:
        EvaluationError: an unknown task, a folder that is none, or more questions with unreadable
            media than `options.allow_errors`; in the last case everything has been written.

    Example:
        >>> evaluate(Path("omni"), ["zoo/mcub"], EvaluationOptions(out_dir=Path("results")))
        ... # doctest: +SKIP
    """
    results = evaluate_share(model_dir, tasks, options, Share())
    if results is None:
        raise EvaluationError(f"{options.out_dir}: the journal lost lines while it was written.")
    return results


@clear_about_disk(EvaluationError)
def evaluate_share(
    model_dir: Path, tasks: Sequence[str], options: EvaluationOptions, share: Share
) -> Results | None:
    """As `evaluate`, for one of several workers that share `options.out_dir`.

    Workers need not know of each other, start together or be as many as before.

    Returns:
        Results from the worker that ends last; None from the others.
    """
    finished = answer_share(model_dir, tasks, options, share)
    return scored(options) if finished else None


@clear_about_disk(EvaluationError)
def answer_share(
    model_dir: Path, tasks: Sequence[str], options: EvaluationOptions, share: Share
) -> bool:
    """Ask one worker's share, and write samples and run.json when nothing is missing any more.

    `score` does the rest, here or on another machine; it needs no model.

    Returns:
        Whether every worker's questions are answered.
    """
    # Before the model is loaded: a misspelt name costs no minute.
    found = find_tasks(tasks, options.data_dir)
    from omnicompose.evaluation.loading import load_composite  # torch and transformers: seconds

    answerer = load_composite(model_dir, options.device, options.dtype)
    return answer(answerer, found, options, (model_dir, share))


@clear_about_disk(EvaluationError)
def ask(
    answerer: Answerer,
    tasks: Sequence[Task],
    options: EvaluationOptions,
    where: tuple[Path, Share],
) -> Results | None:
    """As `evaluate_share`, for a model that is loaded already.

    Args:
        answerer: the model.
        tasks: the benchmarks.
        options: how to ask.
        where: the folder that the model is said to come from, and this worker's share.
    """
    return scored(options) if answer(answerer, tasks, options, where) else None


def scored(options: EvaluationOptions) -> Results:
    """`score`, and the refusal of results with more errors than were allowed."""
    results = score(options.out_dir)
    check_errors(results, options)
    return results


def answer(
    answerer: Answerer,
    tasks: Sequence[Task],
    options: EvaluationOptions,
    where: tuple[Path, Share],
) -> bool:
    """As `answer_share`, for a model that is loaded already; see `ask`."""
    model_dir, share = where
    asked = {
        task.spec.name: run_task(
            task, Run(spec=task.spec, answerer=answerer, options=options), share
        )
        for task in tasks
    }
    # Looked at behind the last task, not behind each: nobody may be last with all of them.
    finished = all([_merge(name, keys, options) for name, keys in asked.items()])
    if finished:
        facts = _run_facts(answerer, tasks, options, model_dir)
        write_atomically(options.out_dir / RUN_NAME, to_json(facts))
    return finished


def _merge(task: str, keys: Sequence[str], options: EvaluationOptions) -> bool:
    """Put a task's samples together, if all are there."""
    lines = collect(keys, options.out_dir, task)
    if lines is not None:
        write_merged(samples_path(options.out_dir, task), lines)
    return lines is not None


def _run_facts(
    answerer: Answerer, tasks: Sequence[Task], options: EvaluationOptions, model_dir: Path
) -> RunFacts:
    """What was asked; tasks asked before in the same way stay part of the results."""
    names = tuple(task.spec.name for task in tasks)
    facts = RunFacts(
        model=ModelFacts(
            path=str(model_dir),
            digest=answerer.digest,
            dtype=answerer.dtype,
            device=options.device,
        ),
        tasks=names,
        modalities=options.modalities,
        scores=options.scores,
        limit=options.limit,
        limit_order=options.limit_order,
        ids=options.ids,
        rotations=options.rotations,
        batch_size=options.batch_size,
        seed=options.seed,
        environment={"python": platform.python_version()} | {n: _version(n) for n in PACKAGES},
        data={task.spec.name: task.digests() for task in tasks if isinstance(task, FileTask)},
    )
    before = read_run(options.out_dir)
    if before and before.model_copy(update={"tasks": names, "data": facts.data}) == facts:
        kept = {"tasks": tuple(dict.fromkeys((*before.tasks, *names)))}
        return facts.model_copy(update=kept | {"data": before.data | facts.data})
    return facts


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # run from a checkout that is not installed
        return None


def check_errors(results: Results, options: EvaluationOptions) -> None:
    """Refuse results with more unreadable media than were allowed.

    Raises:
        EvaluationError: saying how many, and what to do.
    """
    if results.num_errors > options.allow_errors:
        raise EvaluationError(
            f"{options.out_dir}: {results.num_errors} questions could not be asked because their "
            f"media cannot be read (allowed: {options.allow_errors}). The lines with an error in "
            "samples_*.jsonl name the files; mend them and run again, or pass --allow-errors."
        )
