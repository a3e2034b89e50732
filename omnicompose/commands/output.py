"""The one place that prints: results to stdout, news to stderr."""

import json
from collections.abc import Mapping, Sequence

import typer
from rich.console import Console, RenderableType


def show(renderable: RenderableType) -> None:
    """Print a table or text for people."""
    Console().print(renderable)


def show_json(data: object) -> None:
    """Print plain data for programs."""
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False))


def show_rows(rows: Sequence[Mapping[str, object]], columns: Sequence[str], as_json: bool) -> None:
    """Print rows: some columns of them for people, or all as JSON."""
    from omnicompose.commands.tables import rows_table

    show_json(rows) if as_json else show(rows_table(rows, columns))


def say(line: str) -> None:
    """Print one line of news to stderr."""
    Console(stderr=True).print(line, markup=False, highlight=False, soft_wrap=True)
