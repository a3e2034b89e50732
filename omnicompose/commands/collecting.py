"""Commands that collect statistics of data, and add them up."""

from pathlib import Path
from typing import Annotated

import typer

from omnicompose.commands.options import AllowPickle, Overwrite, Seed
from omnicompose.commands.output import say

Subject = Annotated[
    str, typer.Argument(metavar="SOURCE", help="A model, base+adapter, composite, or a recipe.")
]
Data = Annotated[
    Path | None, typer.Option("--data", help="Examples, as JSON lines; a merge recipe names its.")
]
File = Annotated[Path, typer.Option("--out", help="The file to write; a folder for a recipe.")]
What = Annotated[str, typer.Option("--what", help="gram, fisher, attention or targets.")]
Labels = Annotated[
    str, typer.Option("--labels", help="For fisher: sampled from the model, or the given replies.")
]
Limit = Annotated[int | None, typer.Option(min=1, help="Examples, the first ones.")]
Files = Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files of statistics.")]


def collect(
    source: Subject,
    out: File,
    data: Data = None,
    what: What = "gram",
    labels: Labels = "sampled",
    limit: Limit = None,
    seed: Seed = 0,
    allow_pickle: AllowPickle = False,
    overwrite: Overwrite = False,
) -> None:
    """Write what methods need to know of SOURCE. Data streams through it, block by block.

    A killed run is taken up when the same command runs again, a finished one is used again.
    """
    from omnicompose.statistics.collect import CollectOptions
    from omnicompose.statistics.provide import Asked, collect_any

    options = CollectOptions(
        kind=what, labels=labels, seed=seed, allow_pickle=allow_pickle, overwrite=overwrite
    )
    asked = Asked(source=source, data=data, limit=limit, out=out)
    for name, path in collect_any(asked, options, say).items():
        say(f"{name}: {path} ({path.stat().st_size / 1e6:,.1f} MB)")


def add_statistics(files: Files, out: File, overwrite: Overwrite = False) -> None:
    """Add up statistics of one model over different data. FILES hold one kind of them."""
    from omnicompose.export import refuse_existing
    from omnicompose.merging.statistics_adding import add_statistics as add
    from omnicompose.merging.statistics_file import open_statistics

    refuse_existing(out, overwrite=overwrite)

    add(files, out)
    facts = open_statistics(out).facts
    say(f"{out}: {facts.kind} over {facts.num_examples} examples, {facts.num_tokens} tokens.")
