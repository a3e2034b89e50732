"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from omnicompose.recipe_values import parse_size


def _to_bytes(text: str | int) -> int:
    """A size on the command line, such as `2GiB`."""
    try:
        return parse_size(text)
    except ValueError as err:
        raise typer.BadParameter(str(err)) from err


RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe, a YAML file.")]
ModelDir = Annotated[Path, typer.Argument(metavar="DIR", help="A folder written by `compose`.")]
Out = Annotated[Path, typer.Option("--out", help="The folder to write.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where a killed run stopped.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
Device = Annotated[str, typer.Option("--device", help="Where to compute: cpu, cuda.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Memory = Annotated[
    int,
    typer.Option(
        "--memory",
        parser=_to_bytes,
        metavar="SIZE",
        help="For buffers.  [default: 2GiB]",
        show_default=False,  # It would be shown in bytes.
    ),
]
DEFAULT_MEMORY = 2 * 1024**3
AllowPickle = Annotated[
    bool, typer.Option("--allow-pickle", help="Read .bin weights too; no code in them is run.")
]
TrustRemoteCode = Annotated[
    bool,
    typer.Option(
        "--trust-remote-code", help="Run code that a checkpoint brings for tokenizer or processor."
    ),
]
AllowNonfinite = Annotated[
    bool, typer.Option("--allow-nonfinite", help="Let NaN and infinite weights pass.")
]
Inputs = Annotated[
    Path | None,
    typer.Option("--inputs", help="Where relative paths of the recipe start; the recipe's folder."),
]
HashesOnly = Annotated[
    bool, typer.Option("--hashes-only", help="Do not compute any rows from the inputs again.")
]
EveryTensor = Annotated[
    bool, typer.Option("--every-tensor", help="Sample no tensors: rows of each, however long.")
]
Pictures = Annotated[list[Path] | None, typer.Option(help="A picture; may be repeated.")]
Sounds = Annotated[list[Path] | None, typer.Option(help="A sound; may be repeated.")]
Clips = Annotated[list[Path] | None, typer.Option(help="A clip; may be repeated.")]
PointClouds = Annotated[
    list[Path] | None, typer.Option(help="A point cloud (.npy); may be repeated.")
]

Tasks = Annotated[str, typer.Option(help="Names joined by commas; `list` lists them.")]
Shown = Annotated[
    str,
    typer.Option("--modalities", help="all, none, subsets, captions, or sets as image+audio."),
]
Scores = Annotated[str, typer.Option(help="letter, generate or both, joined by a comma.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Questions per set of modalities.")]
BatchSize = Annotated[int, typer.Option("--batch_size", min=1, help="Questions at once.")]
Seed = Annotated[int, typer.Option(min=0, help="Of choices and resampling.")]
AllowErrors = Annotated[
    int, typer.Option("--allow-errors", min=0, help="Questions that may have unreadable media.")
]
