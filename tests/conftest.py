"""Fixtures that every room may use: tiny experts on disk, written once per session."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with base/, llava/, image/ (PEFT on llava), audio/ and audio-decoupled/."""
    import tiny_experts

    folder = tmp_path_factory.mktemp("tiny")
    base = tiny_experts.write_base(folder / "base")
    llava = tiny_experts.write_llava(folder / "llava", base)
    tiny_experts.write_image_adapter(folder / "image", llava)
    tiny_experts.write_audio_expert(folder / "audio", base)
    tiny_experts.write_audio_expert(folder / "audio-decoupled", base, decoupled=True)
    return folder
