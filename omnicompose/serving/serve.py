"""Load a composite, open the port, answer until told to stop."""

import json
import socket
from collections.abc import Callable
from pathlib import Path

from omnicompose.errors import ServingError, SourceError
from omnicompose.serving.limits import ServingOptions


def serve(folder: Path, options: ServingOptions, say: Callable[[str], None]) -> None:
    """Serve a composite until a signal (Ctrl-C, SIGTERM) stops it.

    Args:
        folder: written by `omnicompose compose`.
        options: where to listen, and the limits.
        say: gets lines of news; the address is the first.

    Raises:
        SourceError: the folder holds no composite.
        ServingError: the port is taken, or fastapi and uvicorn are not installed.
    """
    modalities = _modalities(folder)
    try:
        import uvicorn

        from omnicompose.serving.app import make_app
    except ImportError as error:
        raise ServingError(
            f'{error}. Serving needs its extra: pip install "omnicompose[serve]"'
        ) from error
    from omnicompose.replier import load_replier
    from omnicompose.serving.queue import AnswerQueue

    queue = AnswerQueue(load_replier(folder, device=options.device), options)
    about = {"modalities": modalities, "media_bytes": options.media_bytes}
    app = make_app(queue, folder.resolve().name, about)
    config = uvicorn.Config(
        app,
        host=options.host,
        port=options.port,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
    )
    server = uvicorn.Server(config)
    listening = listen_at(options.host, options.port)
    try:
        name, port = listening.getsockname()[:2]
        say(f"http://{name}:{port} answers; Ctrl-C stops it.")
        server.run(sockets=[listening])
    finally:
        queue.close()
        listening.close()


def listen_at(host: str, port: int) -> socket.socket:
    """A bound socket; uvicorn itself would end the process where a port is taken.

    Raises:
        ServingError: nothing can listen there.
    """
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise ServingError(
            f"{host}:{port}: cannot listen there ({error.strerror}). Name another --port."
        ) from error
    return listening


def _modalities(folder: Path) -> list[str]:
    """The composite's modalities, before anything heavy is loaded.

    Raises:
        SourceError: the folder holds no composite.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        if config["model_type"] != "omnicompose":
            raise ValueError(f"model_type {config['model_type']!r}")
        return list(config["modalities"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SourceError(
            f"{folder}: found no composite ({error}), expected a folder that "
            "`omnicompose compose` wrote."
        ) from error
