"""Where the encoder of a new expert may come from."""

from pathlib import Path

import pytest
import torch
from training_tiny import new_expert, stage, write_lessons
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

from omnicompose.encoders.folder import read_encoder
from omnicompose.errors import SourceError, TrainingError
from omnicompose.training.config import TrainConfig
from omnicompose.training.encoder_choice import open_encoder, preprocessor_of
from omnicompose.training.new_expert import build_new_expert
from omnicompose.zoo.catalog import zoo_path

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
    config = chosen(
        tmp_path, "image", source="tower", type="clip_vision", config={"feature_layer": -1}
    )
    found = open_encoder(config)
    assert found.description["config"]["feature_layer"] == -1
    pictures = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        states = tower(pictures, output_hidden_states=True).hidden_states[-1][:, 1:]
        assert torch.equal(found.module.eval()(pictures), states)
    assert build_new_expert(config).parts["model.image_connector.linear_1.weight"] == "connector"


def test_a_fresh_encoder_brings_no_preprocessor(tmp_path: Path) -> None:
    fresh = {"type": "clip_vision", "config": {"vision_config": TOWER}}
    with pytest.raises(TrainingError, match="needs a `preprocessor`"):
        build_new_expert(chosen(tmp_path, "image", **fresh))
    write_tower(tmp_path / "tower")
    config = chosen(tmp_path, "image", **fresh, preprocessor="tower")
    assert "image_processor" in preprocessor_of("image", open_encoder(config))
    assert preprocessor_of("point", open_encoder(config)) == {}


def test_sources_without_the_encoder_that_is_asked_for(tmp_path: Path) -> None:
    write_tower(tmp_path / "tower")
    for kind, message in [
        ("siglip_vision", "in which there is no SiglipVisionModel"),
        ("conv_video", "not built around a model of transformers"),
    ]:
        with pytest.raises(SourceError, match=message):
            open_encoder(chosen(tmp_path, "image", source="tower", type=kind))
