"""The command that asks a composite one question."""

from typing import Annotated

import typer

from omnicompose.commands.options import (
    AsJson,
    Clips,
    Device,
    ModelDir,
    Pictures,
    PointClouds,
    Sounds,
)
from omnicompose.commands.output import show_json


def ask(
    folder: ModelDir,
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="It follows the media.")],
    image: Pictures = None,
    audio: Sounds = None,
    video: Clips = None,
    point: PointClouds = None,
    as_json: AsJson = False,
    device: Device = "cpu",
) -> None:
    """Ask a composite about pictures, sounds, clips and points."""
    from omnicompose.ask import ask as ask_composite

    given = {"image": image, "audio": audio, "video": video, "point": point}
    media = [(modality, path) for modality, paths in given.items() for path in paths or ()]
    answer = ask_composite(folder, question, media, device=device)
    show_json(answer.to_json()) if as_json else typer.echo(answer.answer)
