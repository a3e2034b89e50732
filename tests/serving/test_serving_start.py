"""The server as a process: it starts, says where, answers, and ends cleanly; or says why not."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from omnicompose.errors import ServingError, SourceError
from omnicompose.serving import ServingOptions, serve
from omnicompose.serving.serve import _await_start, _told_to_stop, listen_at

ROOT = Path(__file__).parents[2]
START_SECONDS = 180
STOP_SECONDS = 60


def test_a_folder_that_is_no_composite_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="found no composite"):
        serve(tmp_path, ServingOptions(), print)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(SourceError, match="model_type 'llama'"):
        serve(tmp_path, ServingOptions(), print)


def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ServingError, match=f"127.0.0.1:{port}: cannot listen there"):
            listen_at("127.0.0.1", port)


def test_without_its_extra_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "omnicompose", "modalities": {}}')
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(ServingError, match=r"needs uvicorn, .*omnicompose\[serve\]"):
        serve(tmp_path, ServingOptions(), print)


def test_a_server_that_ends_before_it_begins_is_no_success() -> None:
    class Dead:
        started = False

    with pytest.raises(ServingError, match="ended before it began"):
        _await_start(Dead(), threading.Thread())


@contextmanager
def process(folder: Path, log: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A server of its own and its address; killed at the end, whatever happens."""
    command = [sys.executable, "-m", "omnicompose", "serve", str(folder), "--port", "0"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with log.open("wb") as file:
        server = subprocess.Popen(command, env=environment, cwd=folder, stderr=file)
    try:
        deadline = time.monotonic() + START_SECONDS
        while "answers" not in log.read_text():
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, "it did not start in time"
            time.sleep(0.1)
        yield server, log.read_text().split()[0]
    finally:
        server.kill()
        server.wait(STOP_SECONDS)


def test_told_to_stop_it_finishes_the_answer_under_way(served: object, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with process(served.folder, log) as (server, address):
        assert httpx2.get(f"{address}/health", timeout=STOP_SECONDS).json()["status"] == "ok"
        asked = {"messages": [{"role": "user", "content": "Which number?"}], "stream": True}
        where = f"{address}/v1/chat/completions"
        with httpx2.stream("POST", where, json=asked, timeout=STOP_SECONDS) as answer:
            events = answer.iter_lines()
            next(events)
            server.send_signal(signal.SIGTERM)
            rest = [line.removeprefix("data: ") for line in events if line]
        assert server.wait(STOP_SECONDS) == 0
    assert rest[-1] == "[DONE]"
    assert json.loads(rest[-2])["choices"][0]["finish_reason"] in ("stop", "length")
    assert log.read_text().splitlines() == [f"{address} answers; Ctrl-C stops it."]


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_only_tells_it_to_stop(which: signal.Signals) -> None:
    before = signal.getsignal(which)
    with _told_to_stop() as told:
        signal.raise_signal(which)
        assert told.is_set()
    assert signal.getsignal(which) is before
