"""Commands that pass a composite on: export, push."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from omnicompose.commands.options import AsJson, Inputs, ModelDir, Out, Overwrite
from omnicompose.commands.output import say, show_json

Form = Annotated[
    Literal["composite", "native", "adapters"],
    typer.Option(help="Self-contained; a class of transformers; PEFT adapters on the base."),
]
Results = Annotated[
    list[Path] | None, typer.Option(metavar="RESULTS", help="Of `evaluate`, for the model card.")
]
Rank = Annotated[int | None, typer.Option(min=1, help="Of the adapters' factors.")]


def export(
    folder: ModelDir,
    out: Out,
    form: Form = "composite",
    results: Results = None,
    rank: Rank = None,
    inputs: Inputs = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a composite in a form that needs no omnicompose."""
    if form == "composite":
        from omnicompose.exporting import export_composite

        manifest = export_composite(folder, out, results=results or (), overwrite=overwrite)
        say(f"{out}: {len(manifest.outputs)} files; it loads with trust_remote_code=True.")
    elif form == "native":
        from omnicompose.exporting_native import export_native

        say(f"{out}: a {export_native(folder, out, overwrite=overwrite)}.")
    else:
        from omnicompose.exporting_adapters import export_adapters

        reports = export_adapters(folder, out, rank=rank, inputs=inputs, overwrite=overwrite)
        for one in reports:
            say(
                f"{out / one.name}: rank {one.rank} on {one.layers} layers, relative error of the "
                f"worst {one.largest_error:.1e}."
            )


def push(
    folder: ModelDir,
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="On the model hub.")],
    send: Annotated[
        bool, typer.Option("--send", help="Send it; without this only show what would go.")
    ] = False,
    private: Annotated[
        bool, typer.Option("--private", help="Make it visible to you only.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Put a finished folder on the model hub. Shows what would go there until told to --send."""
    from omnicompose.exporting_push import plan_upload
    from omnicompose.exporting_push import push as send_to_hub

    upload = plan_upload(folder, repository, private=private)
    described = upload.to_json()
    if as_json:
        show_json(described | {"sent": send})
    else:
        say(f"{repository}: {len(upload.files)} files, {described['bytes']:,} bytes.")
        for name in upload.files:
            say(f"  {name}")
    say(send_to_hub(upload) if send else "Nothing was sent. Send it with --send.")
