"""What is refused before a composite is loaded."""

import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from omnicompose.ask import ask
from omnicompose.cli import app
from omnicompose.errors import MediaError, ModelInputError, SourceError


@pytest.fixture
def composite(tmp_path: Path) -> Path:
    """A folder that is a composite as far as its configuration says."""
    config = {"model_type": "omnicompose", "modalities": {"image": {"stream": None}}}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return tmp_path


def test_no_composite(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"found no readable config\.json, expected a composite"):
        ask(tmp_path, "What?", [])
    (tmp_path / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    with pytest.raises(SourceError, match=r"found model_type 'llama', expected 'omnicompose'"):
        ask(tmp_path, "What?", [])


@pytest.mark.parametrize("question", ["", "  \n"])
def test_a_question_without_text(composite: Path, question: str) -> None:
    with pytest.raises(ModelInputError, match=r"the question holds no text\. Ask something"):
        ask(composite, question, [])


def test_a_modality_that_it_lacks(composite: Path) -> None:
    with pytest.raises(
        ModelInputError,
        match=r"a\.wav is given as audio, but .* was composed without audio; it has",
    ):
        ask(composite, "What?", [("audio", Path("a.wav"))])


def test_wrong_media(composite: Path) -> None:
    with pytest.raises(MediaError, match=r"none\.png: there is no such file"):
        ask(composite, "What?", [("image", composite / "none.png")])


def test_the_command_prints_the_message_alone(composite: Path) -> None:
    path = composite / "picture.png"
    Image.new("RGB", (4, 4)).save(path)
    done = CliRunner().invoke(app, ["ask", str(composite), "--image", str(path), " "])
    assert (done.exit_code, done.stderr) == (
        2,
        "omnicompose: the question holds no text. Ask something about the media.\n",
    )
