"""The zoo's LLaVA checkpoint from its parts: put together again, it is what ships."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from omnicompose.encoders import make_encoder
from omnicompose.encoders.clip_vision import LLAVA_PREFIXES
from omnicompose.encoders.folder import write_encoder
from omnicompose.zoo.catalog import zoo_path
from omnicompose.zoo.write_experts import DTYPE, write_llava

TOWER, INSIDE = next(iter(LLAVA_PREFIXES.items()))
PROJECTOR = "multi_modal_projector."


def test_it_is_put_together_as_it_ships(tmp_path: Path) -> None:
    shipped = zoo_path("llava")
    weights = load_file(shipped / "model.safetensors")
    config = json.loads((shipped / "config.json").read_text(encoding="utf-8"))
    tower = {
        INSIDE + name.partition("vision_tower.")[2]: value
        for name, value in weights.items()
        if "vision_tower." in name
    }
    description: dict[str, object] = {
        "type": "clip_vision",
        "config": {
            "vision_config": config["vision_config"],
            "feature_layer": config["vision_feature_layer"],
            "select": config["vision_feature_select_strategy"],
        },
    }
    encoder = make_encoder(description)
    assert isinstance(encoder, torch.nn.Module)
    encoder.load_state_dict({name: value.float() for name, value in tower.items()})
    write_encoder(tmp_path / "encoder", description, encoder, DTYPE)
    projector = {
        name.partition(PROJECTOR)[2]: value for name, value in weights.items() if PROJECTOR in name
    }
    save_file(projector, tmp_path / "connector.safetensors")
    write_llava(
        tmp_path / "llava",
        base=zoo_path("base"),
        encoder=tmp_path / "encoder",
        connector=tmp_path / "connector.safetensors",
    )
    made = load_file(tmp_path / "llava" / "model.safetensors")
    assert made.keys() == weights.keys()
    assert [name for name in made if not torch.equal(made[name], weights[name])] == []
    for name in ("config.json", "processor_config.json", "chat_template.jinja", "tokenizer.json"):
        assert (tmp_path / "llava" / name).read_bytes() == (shipped / name).read_bytes(), name
