"""Commands that evaluate: ask benchmarks' questions, score, compare, report, make questions."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from omnicompose.commands.options import (
    AllowErrors,
    AsJson,
    BatchSize,
    Device,
    Limit,
    Scores,
    Seed,
    Shown,
    Tasks,
)
from omnicompose.commands.output import say, show, show_json, show_rows

if TYPE_CHECKING:
    from omnicompose.evaluation import EvaluationOptions, Results
    from omnicompose.evaluation.line import ScoreKind

ResultsDir = Annotated[Path, typer.Argument(metavar="RESULTS", help="A folder of `evaluate`.")]
DataDir = Annotated[
    Path | None, typer.Option("--data", help="Holds one folder per benchmark that does not ship.")
]
Rotations = Annotated[int, typer.Option(min=1, help="Orders of the options to ask each one in.")]
Workers = Annotated[int, typer.Option("--num-workers", min=1, help="Processes on this machine.")]
Ids = Annotated[Path | None, typer.Option("--samples", help="A JSON list of question ids.")]
OutDir = Annotated[Path | None, typer.Option("--out", "--output_path", help="The folder to write.")]
Dtype = Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")]


def evaluate(
    folder: Annotated[Path | None, typer.Argument(metavar="DIR", help="A composite.")] = None,
    tasks: Tasks = "list",
    out: OutDir = None,
    data: DataDir = None,
    modalities: Shown = "all",
    score: Scores = "letter,generate",
    rotations: Rotations = 1,
    limit: Limit = None,
    samples: Ids = None,
    batch_size: BatchSize = 64,
    num_workers: Workers = 1,
    seed: Seed = 0,
    device: Device = "cpu",
    dtype: Dtype = "auto",
    allow_errors: AllowErrors = 0,
    as_json: AsJson = False,
) -> None:
    """Ask a composite the questions of benchmarks, with chosen modalities shown."""
    if tasks == "list":
        _list_tasks(as_json)
        return
    if folder is None or out is None:
        raise typer.BadParameter("name the composite's DIR and an output folder with --out.")
    from omnicompose.evaluation import EvaluationOptions, device_from
    from omnicompose.evaluation.subsets import parse_modalities

    options = EvaluationOptions(
        out_dir=out,
        data_dir=data,
        modalities=parse_modalities(modalities),
        scores=cast("tuple[ScoreKind, ...]", tuple(score.split(","))),
        rotations=rotations,
        limit=limit,
        ids=None if samples is None else _read_ids(samples),
        batch_size=batch_size,
        seed=seed,
        device=device_from(os.environ, device),
        dtype=dtype,
        allow_errors=allow_errors,
    )
    names = tasks.replace(",", " ").split()
    results = (
        _alone(folder, names, options)
        if num_workers == 1
        else _together(folder, names, options, num_workers)
    )
    if results is not None:
        _show_results(results, as_json)


def score(results: ResultsDir, as_json: AsJson = False) -> None:
    """Compute results.json again from the samples; no model is needed."""
    from omnicompose.evaluation import score as score_samples

    _show_results(score_samples(results), as_json)


def compare(
    results: Annotated[list[Path], typer.Argument(metavar="A B...", help="Results folders.")],
    as_json: AsJson = False,
) -> None:
    """Compare the first results with each of the others, question by question."""
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
    """Write report.md and report.html from an evaluation's results."""
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


def _alone(folder: Path, tasks: list[str], options: "EvaluationOptions") -> "Results | None":
    """In this process: everything, or the share that a launcher gives it."""
    from omnicompose.evaluation import evaluate_share, share_from

    share = share_from(os.environ)
    results = evaluate_share(folder, tasks, options, share)
    if results is None and share.world_size > 1:
        say(f"worker {share.rank} of {share.world_size} is done; the last one writes the results.")
    return results


def _together(
    folder: Path, tasks: list[str], options: "EvaluationOptions", num_workers: int
) -> "Results":
    from omnicompose.evaluation import evaluate_with_workers

    return evaluate_with_workers(folder, tasks, options, num_workers)


def _show_results(results: "Results", as_json: bool) -> None:
    from omnicompose.commands.tables import results_table

    found = results.model_dump(mode="json")
    show_json(found) if as_json else show(results_table(found))


def _list_tasks(as_json: bool) -> None:
    from omnicompose.evaluation import TASKS

    rows = [task.spec.to_dict() for task in TASKS.values()]
    show_rows(rows, ("name", "summary", "chance"), as_json)


def _read_ids(path: Path) -> tuple[str, ...]:
    try:
        ids = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise typer.BadParameter(f"{path}: {err}") from err
    if not isinstance(ids, list) or not all(isinstance(i, str) for i in ids):
        raise typer.BadParameter(f"{path}: expected a JSON list of question ids.")
    return tuple(ids)


def _named_folder(text: str) -> tuple[str, Path]:
    name, sign, folder = text.partition("=")
    if not (name and sign and folder):
        raise typer.BadParameter(f"--expert: found {text!r}, expected NAME=RESULTS.")
    return name, Path(folder)
