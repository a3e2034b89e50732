"""Commands that evaluate: ask benchmarks' questions, score, compare, report, make questions."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from omnicompose.commands.evaluation_options import (
    AtOnce,
    Baseline,
    DataDir,
    Dtype,
    Fresh,
    Ids,
    LimitOrder,
    LogSamples,
    OutDir,
    PredictOnly,
    Rotations,
    SomeOnly,
    Workers,
    read_ids,
    read_scores,
)
from omnicompose.commands.options import (
    AllowErrors,
    AsJson,
    Device,
    Scores,
    Seed,
    Shown,
    Tasks,
)
from omnicompose.commands.output import say, show, show_json, show_rows

if TYPE_CHECKING:
    from omnicompose.evaluation import EvaluationOptions, Results, Share

ResultsDir = Annotated[Path, typer.Argument(metavar="RESULTS", help="A folder of `evaluate`.")]


def evaluate(
    folder: Annotated[Path | None, typer.Argument(metavar="DIR", help="A composite.")] = None,
    tasks: Tasks = "list",
    out: OutDir = None,
    data: DataDir = None,
    modalities: Shown = "all",
    score: Scores = "letter,generate",
    rotations: Rotations = 1,
    limit: SomeOnly = None,
    limit_order: LimitOrder = "seed",
    samples: Ids = None,
    batch_size: AtOnce = "64",
    num_workers: Workers = 1,
    seed: Seed = 0,
    device: Device = "cpu",
    dtype: Dtype = "auto",
    allow_errors: AllowErrors = 0,
    fresh: Fresh = False,
    predict_only: PredictOnly = False,
    baseline: Baseline = None,
    log_samples: LogSamples = True,
    as_json: AsJson = False,
) -> None:
    """Ask a composite questions of benchmarks. Which modalities are shown is chosen."""
    if tasks == "list":
        _list_tasks(as_json)
        return
    if folder is None or out is None:
        raise typer.BadParameter("name the composite's DIR and an output folder with --out.")
    from omnicompose.evaluation import EvaluationOptions, device_from, share_from
    from omnicompose.evaluation.subsets import parse_modalities

    options = EvaluationOptions(
        out_dir=out,
        data_dir=data,
        modalities=parse_modalities(modalities),
        scores=read_scores(score),
        rotations=rotations,
        limit=limit,
        limit_order=cast(Literal["seed", "file"], limit_order),
        ids=None if samples is None else read_ids(samples),
        batch_size=cast("int | Literal['auto']", batch_size),
        seed=seed,
        device=device_from(os.environ, device),
        dtype=dtype,
        allow_errors=allow_errors,
    )
    names = tasks.replace(",", " ").split()
    share = share_from(os.environ)
    _check_launch(share, num_workers, fresh)
    if fresh:
        _forget(names, options)
    if not _answer(folder, names, options, (share, num_workers)):
        say(f"worker {share.rank} of {share.world_size} is done; the last one writes the results.")
    elif predict_only:
        say(f"{out}: answered; `omnicompose score {out}` computes the results.")
    else:
        _finish(options, baseline, as_json)


def score(
    results: ResultsDir,
    lmms_eval: Annotated[
        bool, typer.Option("--lmms-eval", help="Write the files that lmms-eval writes, too.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compute results.json again from samples, without a model."""
    from omnicompose.evaluation import score as score_samples
    from omnicompose.evaluation import write_lmms_files

    _show_results(score_samples(results), as_json)
    for path in write_lmms_files(results) if lmms_eval else ():
        say(str(path))


def compare(
    results: Annotated[list[Path], typer.Argument(metavar="A B...", help="Results folders.")],
    as_json: AsJson = False,
) -> None:
    """Compare the first results with others, by question."""
    from omnicompose.commands.comparing import compared_rows, comparison_table
    from omnicompose.evaluation import compare_all

    rows = compared_rows(results, compare_all(results))
    show_json(rows) if as_json else show(comparison_table(rows))


def report(
    results: ResultsDir,
    expert: Annotated[
        list[str] | None, typer.Option(metavar="NAME=RESULTS", help="For what is kept of it.")
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="The composite's recipe, for how its experts interfere.")
    ] = None,
) -> None:
    """Write report.md and report.html from results."""
    from omnicompose.evaluation import write_report

    sources = dict(map(_named_folder, expert or ()))
    if recipe is not None:
        from omnicompose.interference import write_interference

        write_interference(recipe, results)
    say(str(write_report(results, sources)))


def mcub_build(
    captions: Annotated[
        Path, typer.Argument(metavar="CAPTIONS", help="CSV or JSONL: modality, path, caption.")
    ],
    out: Annotated[Path, typer.Option("--out", help="The folder to write.")],
    questions: Annotated[int, typer.Option(min=1, help="How many to make.")] = 600,
    modalities: Annotated[str, typer.Option(help="Of the inputs, joined by +.")] = (
        "image+audio+video"
    ),
    lexicon: Annotated[
        Path | None, typer.Option(help="JSON: attribute to the words that imply it.")
    ] = None,
    words_first: Annotated[
        bool, typer.Option("--words-first", help="Write options as `red (A)`, as the zoo does.")
    ] = False,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Turn captioned media into questions about what inputs of several modalities share."""
    from omnicompose.evaluation.building import BuildOptions, build_mcub

    options = BuildOptions(
        num_questions=questions,
        modalities=tuple(modalities.split("+")),
        seed=seed,
        style="{choice} ({letter})" if words_first else "{letter}. {choice}",
        lexicon=lexicon,
    )
    leakage = build_mcub(captions, out, options)
    show_json(leakage.to_dict()) if as_json else show_rows(leakage.rows(), leakage.columns, False)


def _check_launch(share: "Share", num_workers: int, fresh: bool) -> None:
    """What a launcher's processes cannot do at once."""
    if share.world_size > 1 and (num_workers > 1 or fresh):
        found = "--num-workers" if num_workers > 1 else "--fresh"
        raise typer.BadParameter(
            f"{found} under a launcher that started {share.world_size} processes: "
            "they already share the work; leave it out, and remove old answers beforehand."
        )


def _forget(names: list[str], options: "EvaluationOptions") -> None:
    from omnicompose.evaluation import discard
    from omnicompose.evaluation.tasks import find_tasks

    discard(options.out_dir, [task.spec.name for task in find_tasks(names, options.data_dir)])


def _answer(
    folder: Path, names: list[str], options: "EvaluationOptions", how: "tuple[Share, int]"
) -> bool:
    """In this process everything, or a launcher's share; or in processes of ours."""
    from omnicompose.evaluation import answer_share, answer_with_workers

    share, num_workers = how
    if num_workers == 1:
        return answer_share(folder, names, options, share)
    answer_with_workers(folder, names, options, num_workers)
    return True


def _finish(options: "EvaluationOptions", baseline: Path | None, as_json: bool) -> None:
    """Score, show, and compare if that was asked for; too many errors are told last."""
    from omnicompose.commands.comparing import compared_rows, comparison_table
    from omnicompose.evaluation import check_errors, compare_all
    from omnicompose.evaluation import score as score_samples

    results = score_samples(options.out_dir)
    folders = [options.out_dir, *([baseline] if baseline else [])]
    rows = compared_rows(folders, compare_all(folders)) if baseline else []
    if as_json:
        show_json(results.model_dump(mode="json") | ({"baseline": rows} if baseline else {}))
    else:
        _show_results(results, as_json=False)
        if baseline:
            show(comparison_table(rows))
    check_errors(results, options)


def _show_results(results: "Results", as_json: bool) -> None:
    from omnicompose.commands.tables import results_table
    from omnicompose.evaluation.wording import partial

    found = results.model_dump(mode="json")
    show_json(found) if as_json else show(results_table(found))
    if results.run is not None and results.run.is_partial and not as_json:
        say(partial(results.run))


def _list_tasks(as_json: bool) -> None:
    from omnicompose.evaluation import TASKS

    rows = [task.spec.to_dict() for task in TASKS.values()]
    show_rows(rows, ("name", "summary", "chance"), as_json)


def _named_folder(text: str) -> tuple[str, Path]:
    name, sign, folder = text.partition("=")
    if not (name and sign and folder):
        raise typer.BadParameter(f"--expert: found {text!r}, expected NAME=RESULTS.")
    return name, Path(folder)
