"""A point cloud asked about on the command line, prepared as its expert's folder says."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_experts import WIDTH, write_encoder, write_expert
from transformers import AutoProcessor
from typer.testing import CliRunner, Result

from omnicompose.cli import app

POINT_BERT = {"hidden_size": 12, "num_layers": 1, "num_heads": 2, "num_groups": 6, "group_size": 4}
POINT_BERT |= {"group_width": 16}


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def write_point_expert(folder: Path, base: Path, preprocessing: object) -> Path:
    torch.manual_seed(4)
    write_encoder(folder / "encoder", {"type": "point_bert", "config": POINT_BERT})
    connector = {"type": "linear", "config": {"input_size": 12, "output_size": WIDTH}}
    entry = {
        "modality": "point",
        "encoder": {"type": "point_bert", "source": None},
        "connector": connector,
    }
    write_expert(folder, base, entry, decoupled=False)
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessing))
    return folder


@pytest.fixture
def cloud(tmp_path: Path) -> Path:
    np.save(tmp_path / "cloud.npy", np.random.default_rng(0).uniform(3, 9, (20, 6)))
    return tmp_path / "cloud.npy"


def compose(folder: Path, base: Path, preprocessing: object) -> Result:
    expert = write_point_expert(folder / "point", base, preprocessing)
    recipe = folder / "recipe.yaml"
    recipe.write_text(f"base: {base}\nexperts: {{point: {{source: {expert}}}}}\n")
    return invoke("compose", recipe, "--out", folder / "omni")


def test_a_cloud_is_answered_about(tiny: Path, tmp_path: Path, cloud: Path) -> None:
    done = compose(tmp_path, tiny / "base", {"normalize": True})
    assert done.exit_code == 0, done.stderr
    done = invoke("ask", tmp_path / "omni", "--point", cloud, "--json", "What?")
    assert done.exit_code == 0, done.stderr
    (item,) = json.loads(done.stdout)["inputs"]
    assert (item["modality"], item["num_tokens"]) == ("point", 7)
    none = invoke("ask", tmp_path / "omni", "--point", tmp_path / "none.npy", "What?")
    assert none.exit_code == 2
    assert "there is no such file" in none.stderr
    processor = AutoProcessor.from_pretrained(tmp_path / "omni")
    points = processor(text="<point>", points=[cloud], return_tensors="pt")["points"]
    assert points[0, :, :3].norm(dim=1).max() == pytest.approx(1)
    given = {"points_kwargs": {"normalize": False}}
    points = processor(text="<point>", points=[cloud], return_tensors="pt", **given)["points"]
    assert points[0, :, :3].min() > 2


def test_other_settings_of_clouds_are_refused(tiny: Path, tmp_path: Path) -> None:
    done = compose(tmp_path, tiny / "base", {"size": 3})
    assert done.exit_code == 2
    assert 'expected nothing or {"normalize": true}' in done.stderr
