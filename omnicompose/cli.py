"""The command line: one table of commands; each calls one public function and prints its result.

Heavy modules are imported inside the commands, so that `--help` answers at once.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console, RenderableType

from omnicompose.cli_group import Commands
from omnicompose.cli_options import (
    DEFAULT_MEMORY,
    AsJson,
    Device,
    MediaFiles,
    Memory,
    ModelDir,
    Out,
    Overwrite,
    RecipeFile,
    Resume,
)
from omnicompose.cli_progress import merge_progress

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Compose one omni-modal language model from separate experts, without training.",
)
zoo_app = typer.Typer(help="The tiny trained experts that ship with the package.")
app.add_typer(zoo_app, name="zoo")


def main() -> None:
    """Entry point of the `omnicompose` program."""
    app()


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Compose one omni-modal language model from separate experts, without training."""


def _show(renderable: RenderableType) -> None:
    Console().print(renderable)


def _show_json(data: object) -> None:
    print(json.dumps(data, indent=2))


def _show_rows(rows: Sequence[Mapping[str, object]], columns: Sequence[str], as_json: bool) -> None:
    from omnicompose.tables import rows_table

    _show_json(rows) if as_json else _show(rows_table(rows, columns))


def _say(line: str) -> None:
    Console(stderr=True).print(line, markup=False, highlight=False, soft_wrap=True)


@app.command()
def quickstart(out: Out = Path("quickstart")) -> None:
    """Compose the zoo's experts, evaluate them together and alone, and show the table."""
    from omnicompose.quickstart import run_quickstart

    _show(run_quickstart(out, say=_say).render())


@app.command()
def schema() -> None:
    """Print the JSON schema of recipes, for editors that complete and check YAML."""
    from omnicompose.recipe import recipe_schema

    _show_json(recipe_schema())


@app.command()
def inspect(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A folder, zoo:NAME, hub id or base+adapter.")
    ],
    as_json: AsJson = False,
) -> None:
    """Show what a model or expert is made of, from its headers alone."""
    from omnicompose.experts import inspect_source
    from omnicompose.tables import fields_table

    found = inspect_source(source).to_json()
    _show_json(found) if as_json else _show(fields_table(found))


@app.command()
def plan(recipe: RecipeFile, as_json: AsJson = False) -> None:
    """Show what becomes of every tensor, before any is read."""
    from omnicompose.recipe import read_compose_recipe

    asked = read_compose_recipe(recipe)  # before the heavy imports: mistakes show at once
    from omnicompose.plan import make_plan, render_plan

    decided = make_plan(asked)
    _show_json(decided.to_json()) if as_json else _show(render_plan(decided))


@app.command()
def compose(
    recipe: RecipeFile,
    out: Out,
    resume: Resume = False,
    overwrite: Overwrite = False,
    memory: Memory = DEFAULT_MEMORY,
    device: Device = "cpu",
) -> None:
    """Build the composite that RECIPE describes."""
    from omnicompose.export import refuse_existing
    from omnicompose.recipe import read_compose_recipe

    # Before the heavy imports, so that mistakes show at once.
    read_compose_recipe(recipe)
    refuse_existing(out, overwrite=overwrite)
    from omnicompose.composer import ComposeOptions
    from omnicompose.composer import compose as build

    options = ComposeOptions(resume=resume, overwrite=overwrite, memory_bytes=memory, device=device)
    with merge_progress() as report:
        result = build(recipe, out, options, report)
    _say(f"{out}: {result.bytes_written / 1e6:,.1f} MB in {result.seconds:.1f} s.")


@app.command()
def merge(
    recipe: RecipeFile,
    out: Out,
    resume: Resume = False,
    overwrite: Overwrite = False,
    memory: Memory = DEFAULT_MEMORY,
    device: Device = "cpu",
) -> None:
    """Merge the models that RECIPE names: one architecture, or any safetensors."""
    from omnicompose.export import refuse_existing
    from omnicompose.recipe import read_merge_recipe

    # Before the heavy imports, so that mistakes show at once.
    read_merge_recipe(recipe)
    refuse_existing(out, overwrite=overwrite)
    from omnicompose.composer import ComposeOptions
    from omnicompose.composer import merge as build

    options = ComposeOptions(resume=resume, overwrite=overwrite, memory_bytes=memory, device=device)
    with merge_progress() as report:
        result = build(recipe, out, options, report)
    _say(f"{out}: {result.bytes_written / 1e6:,.1f} MB in {result.seconds:.1f} s.")


@app.command()
def verify(folder: ModelDir) -> None:
    """Check every hash in the manifest and compute sampled rows again."""
    from omnicompose.errors import ExportError
    from omnicompose.export import verify as problems_of

    problems = problems_of(folder)
    if problems:
        raise ExportError("\n".join(problems))
    _say(f"{folder}: everything is as its manifest says.")


@app.command()
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
    _show_json(answer.to_json()) if as_json else print(answer.answer)


@app.command()
def evaluate(
    folder: Annotated[Path | None, typer.Argument(metavar="DIR", help="A composite.")] = None,
    tasks: Annotated[str, typer.Option(help="Names joined by commas; `list` lists them.")] = "list",
    out: Annotated[Path | None, typer.Option("--out", help="The folder to write.")] = None,
    modalities: Annotated[
        str, typer.Option(help="all, none, subsets, captions, or sets such as image+audio.")
    ] = "all",
    score: Annotated[str, typer.Option(help="letter, generate or both.")] = "letter,generate",
    limit: Annotated[int | None, typer.Option(min=1, help="Questions per task.")] = None,
    batch_size: Annotated[int, typer.Option("--batch_size", min=1, help="Questions at once.")] = 16,
    seed: Annotated[int, typer.Option(min=0, help="Of resampled statistics.")] = 0,
    device: Device = "cpu",
    allow_errors: Annotated[
        int, typer.Option("--allow-errors", min=0, help="Unreadable media tolerated.")
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Ask a composite the questions of benchmarks, with chosen modalities shown."""
    if tasks == "list":
        _list_tasks(as_json)
        return
    if folder is None or out is None:
        raise typer.BadParameter("name the composite's DIR and an output folder with --out.")
    from omnicompose.evaluation import EvaluationOptions, parse_modalities
    from omnicompose.evaluation import evaluate as run_evaluation

    options = EvaluationOptions(
        out_dir=out,
        modalities=parse_modalities(modalities),
        scores=tuple(score.split(",")),
        limit=limit,
        batch_size=batch_size,
        seed=seed,
        device=device,
        allow_errors=allow_errors,
    )
    run_evaluation(folder, tasks.split(","), options)


def _list_tasks(as_json: bool) -> None:
    from omnicompose.evaluation import TASKS

    rows = [task.spec.to_dict() for task in TASKS.values()]
    _show_rows(rows, ("name", "summary", "chance"), as_json)


@app.command()
def report(
    results: Annotated[Path, typer.Argument(metavar="RESULTS", help="A folder of `evaluate`.")],
) -> None:
    """Write report.md and report.html from an evaluation's results."""
    from omnicompose.evaluation import write_report

    _say("\n".join(map(str, write_report(results))))


@app.command()
def methods(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="One method, in full.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the merging methods, or explain one: formula, paper, parameters, defaults."""
    from omnicompose.merging.listing import method_rows
    from omnicompose.tables import method_table, methods_table

    rows = method_rows(name)
    if as_json:
        _show_json(rows)
    else:
        _show(method_table(rows[0]) if name else methods_table(rows))


@app.command()
def families(as_json: AsJson = False) -> None:
    """List the model architectures that experts may have."""
    from omnicompose.families import FAMILIES

    rows = [
        {"architecture": name, "modalities": ", ".join(family.encoders) or "text"}
        for name, family in FAMILIES.items()
    ]
    _show_rows(rows, ("architecture", "modalities"), as_json)


@zoo_app.callback(invoke_without_command=True)
def _zoo(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the zoo, or print where one of its models lies."""
    if ctx.invoked_subcommand is None:
        zoo_list(as_json)


@zoo_app.command("list")
def zoo_list(as_json: AsJson = False) -> None:
    """List the shipped models."""
    from omnicompose.zoo.catalog import ZOO, zoo_bytes

    rows = [
        {"name": f"zoo:{name}", "bytes": zoo_bytes(name), "summary": summary}
        for name, summary in ZOO.items()
    ]
    _show_rows(rows, ("name", "bytes", "summary"), as_json)


@zoo_app.command("path")
def zoo_path(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Such as image-standard.")],
) -> None:
    """Print the folder of one shipped model."""
    from omnicompose.zoo.catalog import zoo_path as path_of

    print(path_of(name))
