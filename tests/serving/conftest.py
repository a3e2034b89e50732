"""A served zoo composite, once per session, and a browser to look at it."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvicorn

from omnicompose.composer import compose
from omnicompose.replier import load_replier
from omnicompose.serving.app import make_app
from omnicompose.serving.limits import ServingOptions
from omnicompose.serving.queue import AnswerQueue
from omnicompose.serving.serve import listen_at
from omnicompose.zoo.media import held_out_media

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    address: str
    folder: Path
    queue: AnswerQueue


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served") / "omni"
    compose(ROOT / "configs/naive-standard.yaml", folder)
    options = ServingOptions(port=0, body_bytes=1 << 21, media_bytes=1 << 20)
    queue = AnswerQueue(load_replier(folder), options)
    senses = ["image", "audio", "video"]
    app = make_app(queue, "omni", {"modalities": senses, "media_bytes": options.media_bytes})
    config = uvicorn.Config(app, host=options.host, port=0, log_level="warning")
    listening = listen_at(options.host, 0)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    while not server.started:
        time.sleep(0.05)
    address = f"http://127.0.0.1:{listening.getsockname()[1]}"
    yield Served(address=address, folder=folder, queue=queue)
    server.should_exit = True
    thread.join(20)
    queue.close()
    listening.close()
    assert not thread.is_alive()


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One file of each sense."""
    folder = tmp_path_factory.mktemp("files")
    found = held_out_media().media
    senses = ("image", "audio", "video")
    return {m: next(x for x in found if x.item.modality == m).write(folder) for m in senses}
