"""The server as a process: it starts, says where, answers, and ends cleanly; or says why not."""

import socket
import sys
from pathlib import Path

import pytest

from omnicompose.errors import ServingError, SourceError
from omnicompose.serving import ServingOptions, serve
from omnicompose.serving.serve import listen_at

ROOT = Path(__file__).parents[2]


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
    with pytest.raises(ServingError, match=r"omnicompose\[serve\]"):
        serve(tmp_path, ServingOptions(), print)
