"""Where the encoder of a new expert may come from."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from training_tiny import new_expert, stage, write_lessons
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

from omnicompose.encoders.folder import read_encoder
from omnicompose.errors import SourceError, TrainingError
from omnicompose.families import FAMILIES, NativeMedia, NativeModel
from omnicompose.training.config import TrainConfig
from omnicompose.training.encoder_choice import open_encoder, preprocessor_of
from omnicompose.training.new_expert import build_new_expert
from omnicompose.zoo.catalog import zoo_path

ANY_MEDIA = NativeMedia(token="image_token", ids=("image_token_id",), input_name="pixel_values")
TOWER = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 16,
}


def chosen(folder: Path, modality: str, **encoder: object) -> TrainConfig:
    learning = stage("connector", write_lessons(folder, None, 1), encoder_learning_rate=1e-4)
    return new_expert(folder, modality, [learning], encoder=encoder)


def write_tower(folder: Path) -> CLIPVisionModel:
    torch.manual_seed(0)
    tower = CLIPVisionModel(CLIPVisionConfig(**TOWER)).eval()
    tower.save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}).save_pretrained(folder)
    return tower


def test_a_folder_of_ours(tmp_path: Path) -> None:
    found = open_encoder(chosen(tmp_path, "audio", source="zoo:encoder-audio"))
    theirs = read_encoder(zoo_path("encoder-audio")).state_dict()
    assert found.preprocessor == zoo_path("encoder-audio")
    assert all(torch.equal(weight, theirs[n]) for n, weight in found.module.state_dict().items())


def test_a_bare_tower_of_transformers(tmp_path: Path) -> None:
    tower = write_tower(tmp_path / "tower")
    found = open_encoder(chosen(tmp_path, "image", source="tower"))
    assert found.description["type"] == "clip_vision"
    layer = found.description["config"].get("feature_layer", -2)
    pictures = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        states = tower(pictures, output_hidden_states=True).hidden_states[layer][:, 1:]
        assert torch.equal(found.module.eval()(pictures), states)


def test_a_fresh_encoder_brings_no_preprocessor(tmp_path: Path) -> None:
    fresh = {"type": "clip_vision", "config": {"vision_config": TOWER}}
    with pytest.raises(TrainingError, match="needs a `preprocessor`"):
        build_new_expert(chosen(tmp_path, "image", **fresh))
    write_tower(tmp_path / "tower")
    config = chosen(tmp_path, "image", **fresh, preprocessor="tower")
    assert "image_processor" in preprocessor_of("image", open_encoder(config))
    assert preprocessor_of("point", open_encoder(config)) == {}


def test_an_encoder_that_cannot_be_taken_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    llava = FAMILIES["LlavaForConditionalGeneration"]
    native = NativeModel(base_class="LlavaModel", media={"image": ANY_MEDIA})
    monkeypatch.setitem(FAMILIES, llava.architecture, replace(llava, native=native))
    with pytest.raises(SourceError, match="no encoder can be taken out"):
        open_encoder(chosen(tmp_path, "image", source="zoo:llava"))
