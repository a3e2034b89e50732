"""A composed folder answers through the command line: text, picture and sound."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image
from typer.testing import CliRunner, Result

from omnicompose.cli import app


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def folder(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A composite in `omni`, made by the command line, with a picture and a sound beside it."""
    folder = tmp_path_factory.mktemp("ask")
    experts = f"{{image: {{source: {tiny}/image}}, audio: {{source: {tiny}/audio-decoupled}}}}"
    recipe = folder / "recipe.yaml"
    recipe.write_text(f"base: {tiny}/base\nexperts: {experts}\nmodality: exact\n", encoding="utf-8")
    done = invoke("compose", recipe, "--out", folder / "omni", "--memory", "64MiB")
    assert done.exit_code == 0, done.stderr
    assert "MB in" in done.stderr
    Image.new("RGB", (16, 16), "red").save(folder / "picture.png")
    noise = np.random.default_rng(0).normal(scale=0.1, size=1600).astype(np.float32)
    soundfile.write(folder / "sound.wav", noise, 8000)
    return folder


def test_plan_lists_every_tensor_once(folder: Path) -> None:
    plan = json.loads(invoke("plan", folder / "recipe.yaml", "--json").stdout)
    for names in (
        [entry["name"] for entry in plan["outputs"]],
        [entry["tensor"] for entry in plan["inputs"]],
    ):
        assert len(names) == len(set(names)) > 0
    assert "tensors" in invoke("plan", folder / "recipe.yaml").stdout


def test_an_answer_says_how_many_tokens_each_input_took(folder: Path) -> None:
    picture, sound = folder / "picture.png", folder / "sound.wav"
    command = ["ask", folder / "omni", "--image", picture, "--audio", sound, "--json", "What?"]
    answer = json.loads(invoke(*command).stdout)
    assert answer["question"] == "What?"
    assert isinstance(answer["answer"], str)
    by_modality = {entry["modality"]: entry for entry in answer["inputs"]}
    assert list(by_modality) == ["image", "audio"]
    assert by_modality["image"]["num_tokens"] == 4
    assert by_modality["audio"]["num_tokens"] > 0
    assert {name: entry["stream"] for name, entry in by_modality.items()} == {
        "image": "image",
        "audio": "audio",
    }
    assert json.loads(invoke(*command).stdout) == answer


def test_text_alone(folder: Path) -> None:
    done = invoke("ask", folder / "omni", "What is even?")
    assert done.exit_code == 0, done.stderr


def test_an_existing_folder_is_refused_at_once(folder: Path) -> None:
    done = invoke("compose", folder / "recipe.yaml", "--out", folder / "omni")
    assert done.exit_code == 2
    assert done.stderr.startswith(f"omnicompose: {folder}/omni: exists already. Name another")


def test_verify_finds_a_changed_byte(folder: Path) -> None:
    assert invoke("verify", folder / "omni").exit_code == 0
    weights = next((folder / "omni").glob("*.safetensors"))
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    done = invoke("verify", folder / "omni")
    assert done.exit_code == 2
    assert weights.name in done.stderr
