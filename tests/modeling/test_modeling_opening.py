"""A composite opens whole or not at all, and draws nothing on a stderr that nobody watches."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from omnicompose.composer import compose
from omnicompose.errors import SourceError
from omnicompose.modeling.loading import open_composite, open_model, open_processor


@pytest.fixture(scope="module")
def whole(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("opening")
    recipe = folder / "recipe.yaml"
    recipe.write_text(f"base: {tiny}/base\nexperts: {{image: {{source: {tiny}/image}}}}\n")
    compose(recipe, folder / "omni")
    return folder / "omni"


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "omni"))


def test_it_opens_without_a_word(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model, processor = open_composite(folder, torch.float32)
    assert model.dtype == torch.float32
    assert not model.training
    assert "image" in processor.modalities
    assert capfd.readouterr() == ("", "")


def test_a_tensor_that_is_gone_is_no_random_one(folder: Path) -> None:
    weights = folder / "model.safetensors"
    tensors = load_file(weights)
    gone = tensors.pop("model.image_connector.linear_1.weight")
    save_file(tensors, weights, {"format": "pt"})
    with pytest.raises(SourceError, match=r"missing model\.image_connector.*omnicompose verify"):
        open_model(folder, "auto")
    tensors |= {"model.image_connector.linear_1.weight": gone, "stray": torch.zeros(1)}
    save_file(tensors, weights, {"format": "pt"})
    with pytest.raises(SourceError, match="unexpected stray"):
        open_model(folder, "auto")


def test_another_shape_and_half_a_file_are_named(folder: Path) -> None:
    weights = folder / "model.safetensors"
    tensors = load_file(weights)
    tensors["model.image_connector.linear_1.weight"] = torch.zeros(1, 1)
    save_file(tensors, weights, {"format": "pt"})
    with pytest.raises(SourceError, match="cannot be loaded"):
        open_model(folder, "auto")
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(SourceError, match="cannot be loaded"):
        open_model(folder, "auto")


@pytest.mark.parametrize("content", ["", "[]", '{"processor_class": 3}'])
def test_a_broken_processor_is_named(folder: Path, content: str) -> None:
    (folder / "processor_config.json").write_text(content)
    with pytest.raises(SourceError, match="cannot be loaded"):
        open_processor(folder)


@pytest.mark.parametrize("is_there", [True, False])
def test_a_processor_that_transformers_made_up_is_refused(folder: Path, is_there: bool) -> None:
    path = folder / "processor_config.json"
    path.write_text("{}")
    if not is_there:
        path.unlink()
    with pytest.raises(SourceError, match=r"processor_config\.json: found the modalities \[\]"):
        open_processor(folder)


def test_a_configuration_without_its_parts_is_named(folder: Path) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["modalities"]["image"].pop("connector")
    path.write_text(json.dumps(config))
    with pytest.raises(SourceError, match="cannot be loaded"):
        open_model(folder, "auto")
