"""Fixtures of the streams room."""

from pathlib import Path

import pytest
from streams_build import build


@pytest.fixture(scope="session")
def built(tiny: Path, tmp_path_factory: pytest.TempPathFactory):
    folders: dict[str, Path] = {}

    def get(text: str) -> Path:
        if text not in folders:
            out = tmp_path_factory.mktemp("composed") / f"model{len(folders)}"
            folders[text] = build(tiny, out, text)
        return folders[text]

    return get
