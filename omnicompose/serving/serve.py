"""Load a composite, open the port, answer until told to stop."""

import json
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING

from omnicompose.errors import ServingError, SourceError
from omnicompose.serving.limits import ServingOptions

if TYPE_CHECKING:
    from uvicorn import Server

    from omnicompose.serving.queue import AnswerQueue

EXTRA = ("fastapi", "uvicorn")
POLL_SECONDS = 0.05
SENDING_SECONDS = 5
"""What clients have to take the end of an answer that was cut off."""
STOPS = (signal.SIGINT, signal.SIGTERM)


def serve(folder: Path, options: ServingOptions, say: Callable[[str], None]) -> None:
    """Serve a composite until a signal (Ctrl-C, SIGTERM) stops it; call it from the main thread.

    Once told to stop it takes nothing new, gives the answers under way `options.grace_seconds`,
    ends where they are those that need longer, and returns. A second Ctrl-C waits for none.

    Args:
        folder: written by `omnicompose compose`.
        options: where to listen, and the limits.
        say: gets lines of news; the first is the address, once requests are taken there.

    Raises:
        SourceError: the folder holds no composite.
        ServingError: the port is taken, fastapi or uvicorn is not installed, or it cannot start.
    """
    about = {"modalities": _modalities(folder), "media_bytes": options.media_bytes}
    _need_extra()
    with closing(listen_at(options.host, options.port)) as listening:
        queue, server = _load(folder, options, about)
        thread = Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        try:
            with _told_to_stop() as told:
                thread.start()
                _await_start(server, thread)
                say(f"{_address(listening)} answers; Ctrl-C stops it.")
                while thread.is_alive() and not told.wait(POLL_SECONDS):
                    pass
            server.should_exit = True
            thread.join(options.grace_seconds)
        finally:
            queue.close()
        thread.join(2 * SENDING_SECONDS)


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


def _need_extra() -> None:
    """Refuse to start without the packages that only serving needs.

    Raises:
        ServingError: they are not installed.
    """
    missing = [name for name in EXTRA if find_spec(name) is None]
    if missing:
        raise ServingError(
            f"serving needs {' and '.join(missing)}, not found here. "
            'Install its extra: pip install "omnicompose[serve]"'
        )


def _load(
    folder: Path, options: ServingOptions, about: Mapping[str, object]
) -> "tuple[AnswerQueue, Server]":
    """The model behind its queue, and a server that has not started."""
    import uvicorn

    from omnicompose.replier import load_replier
    from omnicompose.serving.app import make_app
    from omnicompose.serving.queue import AnswerQueue

    queue = AnswerQueue(load_replier(folder, device=options.device), options)
    config = uvicorn.Config(
        make_app(queue, folder.resolve().name, about),
        host=options.host,
        port=options.port,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(options.grace_seconds) + SENDING_SECONDS,
    )
    return queue, uvicorn.Server(config)


@contextmanager
def _told_to_stop() -> Iterator[Event]:
    """Set by the first signal; afterwards signals do what they did before."""
    told = Event()
    before = {one: signal.signal(one, lambda *_: told.set()) for one in STOPS}
    try:
        yield told
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _await_start(server: "Server", thread: Thread) -> None:
    """Wait until requests are taken.

    Raises:
        ServingError: they never will be.
    """
    while not server.started:
        if not thread.is_alive():
            raise ServingError("the server ended before it began; its log above says why.")
        time.sleep(POLL_SECONDS)


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


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
