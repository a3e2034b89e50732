"""The command that serves a composite."""

from typing import Annotated

import typer

from omnicompose.commands.options import Device, ModelDir
from omnicompose.commands.output import say

LOOPBACK = ("127.0.0.1", "localhost", "::1")
Host = Annotated[str, typer.Option(help="Address to listen at; 127.0.0.1 is this machine only.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="0 takes any that is free.")]
Waiting = Annotated[int, typer.Option(min=1, help="Requests that may wait for the model.")]


def serve(
    folder: ModelDir,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    device: Device = "cpu",
    waiting: Waiting = 64,
) -> None:
    """Open a chat page and an endpoint for a composite. The endpoint is OpenAI-compatible."""
    from omnicompose.serving import ServingOptions
    from omnicompose.serving import serve as run

    options = ServingOptions(host=host, port=port, device=device, waiting=waiting)
    if host not in LOOPBACK:
        say(f"Listening at {host}: whoever reaches this machine can use the model.")
    run(folder, options, say)
