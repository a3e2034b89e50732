"""Commands that ask: one question, a benchmark's questions, a report of the answers."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from omnicompose.commands.options import (
    AllowErrors,
    AsJson,
    BatchSize,
    Device,
    Limit,
    MediaFiles,
    ModelDir,
    Scores,
    Seed,
    Shown,
    Tasks,
)
from omnicompose.commands.output import say, show, show_json, show_rows

if TYPE_CHECKING:
    from omnicompose.evaluation.line import ScoreKind


def ask(
    folder: ModelDir,
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="It follows the media.")],
    image: MediaFiles = None,
    audio: MediaFiles = None,
    video: MediaFiles = None,
    as_json: AsJson = False,
    device: Device = "cpu",
) -> None:
    """Ask a composite about pictures, sounds and clips."""
    from omnicompose.ask import ask as ask_composite

    given = {"image": image, "audio": audio, "video": video}
    media = [(modality, path) for modality, paths in given.items() for path in paths or ()]
    answer = ask_composite(folder, question, media, device=device)
    show_json(answer.to_json()) if as_json else typer.echo(answer.answer)


def evaluate(
    folder: Annotated[Path | None, typer.Argument(metavar="DIR", help="A composite.")] = None,
    tasks: Tasks = "list",
    out: Annotated[Path | None, typer.Option("--out", help="The folder to write.")] = None,
    modalities: Shown = "all",
    score: Scores = "letter,generate",
    limit: Limit = None,
    batch_size: BatchSize = 64,
    seed: Seed = 0,
    device: Device = "cpu",
    allow_errors: AllowErrors = 0,
    as_json: AsJson = False,
) -> None:
    """Ask a composite the questions of benchmarks, with chosen modalities shown."""
    if tasks == "list":
        _list_tasks(as_json)
        return
    if folder is None or out is None:
        raise typer.BadParameter("name the composite's DIR and an output folder with --out.")
    from omnicompose.commands.tables import results_table
    from omnicompose.evaluation import EvaluationOptions
    from omnicompose.evaluation import evaluate as run_evaluation
    from omnicompose.evaluation.subsets import parse_modalities

    options = EvaluationOptions(
        out_dir=out,
        modalities=parse_modalities(modalities),
        scores=cast("tuple[ScoreKind, ...]", tuple(score.split(","))),
        limit=limit,
        batch_size=batch_size,
        seed=seed,
        device=device,
        allow_errors=allow_errors,
    )
    found = run_evaluation(folder, tasks.split(","), options).model_dump(mode="json")
    show_json(found) if as_json else show(results_table(found))


def _list_tasks(as_json: bool) -> None:
    from omnicompose.evaluation import TASKS

    rows = [task.spec.to_dict() for task in TASKS.values()]
    show_rows(rows, ("name", "summary", "chance"), as_json)


def report(
    results: Annotated[Path, typer.Argument(metavar="RESULTS", help="A folder of `evaluate`.")],
) -> None:
    """Write report.md and report.html from an evaluation's results."""
    from omnicompose.evaluation import write_report

    say(str(write_report(results)))
