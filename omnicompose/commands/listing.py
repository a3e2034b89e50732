"""Commands that list: schema, methods, families, the zoo, the parts of a model."""

from pathlib import Path
from typing import Annotated

import typer

from omnicompose.commands.options import AllowPickle, AsJson
from omnicompose.commands.output import show, show_json, show_rows


def schema() -> None:
    """Print the JSON schema of recipes. Editors complete and check YAML with it."""
    from omnicompose.recipe import recipe_schema

    show_json(recipe_schema())


def inspect(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A folder, zoo:NAME, hub id or base+adapter.")
    ],
    as_json: AsJson = False,
    base: Annotated[
        str | None, typer.Option(help="A language model: does the backbone descend from it?")
    ] = None,
    allow_pickle: AllowPickle = False,
) -> None:
    """Show what a model is made of. Headers alone are read."""
    from omnicompose.experts.resolve import source_here

    source_here(source)  # Before the heavy imports, so that mistakes show at once.
    from omnicompose.commands.tables import inspection_view
    from omnicompose.inspection import inspect_source

    found = inspect_source(source, base=base, allow_pickle=allow_pickle).to_json()
    show_json(found) if as_json else show(inspection_view(found))


def methods(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="One method, in full.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the merging methods, or explain one.

    Of one: formula, paper, parameters, defaults.
    """
    from omnicompose.commands.tables import method_table, methods_table
    from omnicompose.merging.listing import method_rows

    rows = method_rows(name)
    if as_json:
        show_json(rows)
    else:
        show(method_table(rows[0]) if name else methods_table(rows))


def families(as_json: AsJson = False) -> None:
    """List the model architectures that experts may have."""
    from omnicompose.families import family_rows

    show_rows(family_rows(), ("architecture", "modalities", "state", "how"), as_json)


def zoo(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the zoo, or print where one of its models lies."""
    if ctx.invoked_subcommand is None:
        zoo_list(as_json)


def zoo_list(as_json: AsJson = False) -> None:
    """List the shipped models."""
    from omnicompose.zoo.catalog import ZOO, zoo_bytes

    rows = [
        {"name": f"zoo:{name}", "bytes": zoo_bytes(name), "summary": summary}
        for name, summary in ZOO.items()
    ]
    show_rows(rows, ("name", "bytes", "summary"), as_json)


def zoo_path(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Such as image-standard.")],
) -> None:
    """Print the folder of one shipped model."""
    from omnicompose.zoo.catalog import zoo_path as path_of

    typer.echo(path_of(name))


def zoo_media(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to write them.")],
) -> None:
    """Write a picture, a sound and a clip that no expert was trained on, to ask about."""
    from omnicompose.zoo.media import write_samples

    for path in write_samples(folder):
        typer.echo(path)
