"""The command line: one table of commands; each calls one public function and prints its result."""

from typing import Annotated

import typer

from omnicompose.commands.aligning import align, prior
from omnicompose.commands.asking import ask
from omnicompose.commands.benchmarking import benchmark
from omnicompose.commands.building import compose, merge, plan, quickstart, verify
from omnicompose.commands.collecting import add_statistics, collect
from omnicompose.commands.evaluating import compare, evaluate, mcub_build, report, score
from omnicompose.commands.exporting import export, push
from omnicompose.commands.failing import Commands
from omnicompose.commands.listing import (
    families,
    inspect,
    methods,
    schema,
    zoo,
    zoo_list,
    zoo_media,
    zoo_path,
)
from omnicompose.commands.looking import look
from omnicompose.commands.serving import serve
from omnicompose.commands.training import train
from omnicompose.commands.tuning import tune

COMMANDS = (
    quickstart,
    schema,
    inspect,
    plan,
    compose,
    train,
    tune,
    merge,
    collect,
    add_statistics,
    align,
    prior,
    verify,
    export,
    push,
    ask,
    serve,
    look,
    evaluate,
    score,
    compare,
    report,
    benchmark,
    methods,
    families,
)
HELP = "Compose one omni-modal language model from separate experts, without training."

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help=HELP,
)
for command in COMMANDS:
    app.command()(command)

zoo_app = typer.Typer(help="List the shipped experts, or print where one of them lies.")
zoo_app.callback(invoke_without_command=True)(zoo)
zoo_app.command("list")(zoo_list)
zoo_app.command("path")(zoo_path)
zoo_app.command("media")(zoo_media)
app.add_typer(zoo_app, name="zoo")

mcub_app = typer.Typer(help="Make questions about what several media share.")
mcub_app.callback()(lambda: None)
mcub_app.command("build")(mcub_build)
app.add_typer(mcub_app, name="mcub")


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    pass


def main() -> None:
    """Entry point of the `omnicompose` program."""
    app(prog_name="omnicompose")
