"""Commands that rewrite a model so that it fits another, and that export a direction."""

from pathlib import Path
from typing import Annotated

import typer

from omnicompose.commands.options import Out, Overwrite, Seed
from omnicompose.commands.output import say

Reference = Annotated[str, typer.Argument(metavar="REFERENCE", help="Stays as it is.")]
Subject = Annotated[str, typer.Argument(metavar="MODEL", help="Is written anew to fit it.")]
How = Annotated[str, typer.Option("--how", help="permutation, transport or vocabulary.")]
Amount = Annotated[
    float, typer.Option("--regularisation", min=0.0, help="Of the transport; 0: exact.")
]
Reasoning = Annotated[str, typer.Argument(metavar="REASONING", help="A reasoning model.")]
Vision = Annotated[str, typer.Argument(metavar="VISION", help="A vision-language model.")]
File = Annotated[Path, typer.Option("--out", help="The file to write.")]


def align(
    reference: Reference,
    model: Subject,
    out: Out,
    how: How = "permutation",
    regularisation: Amount = 0.0,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Write MODEL anew so that it can be merged with REFERENCE."""
    from omnicompose.aligning.align import AlignOptions, source_of
    from omnicompose.aligning.align import align as run

    options = AlignOptions(how=how, regularisation=regularisation, seed=seed, overwrite=overwrite)
    run(source_of(reference), source_of(model), out, options, say)
    say(f"{out}: {model} aligned to {reference} by {how}.")


def prior(reasoning: Reasoning, vision: Vision, out: File, overwrite: Overwrite = False) -> None:
    """Write the direction from VISION to REASONING.

    It is a tensor file, the reasoning prior of DRIFT.
    """
    from omnicompose.export import refuse_existing

    refuse_existing(out, overwrite=overwrite)
    from omnicompose.aligning.align import source_of
    from omnicompose.aligning.prior import write_prior

    count = write_prior(source_of(reasoning), source_of(vision), out)
    say(f"{out}: {count} tensors.")
