"""What a search judges is what is written: connectors that learned are searched and merged too."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from transformers import LlavaForConditionalGeneration, PreTrainedModel

from omnicompose.merger import merge
from omnicompose.zoo.catalog import zoo_path

SEEN: dict[str, torch.Tensor] = {}
PROJECTOR = "multi_modal_projector.linear_1.weight"


def keep(_candidate: Mapping[str, object], model: PreTrainedModel) -> float:
    SEEN.update({name: value.clone() for name, value in model.state_dict().items()})
    return 1.0


@pytest.fixture
def recipe(tmp_path: Path) -> Iterator[dict[str, object]]:
    Image.new("RGB", (32, 32), "red").save(tmp_path / "red.png")
    line = {"content": [{"type": "image", "path": "red.png"}, "what is this?"]}
    (tmp_path / "data.jsonl").write_text(json.dumps(line) + "\n")
    names = ("image-standard", "image-stressed")
    models = [{"source": f"zoo:{name}", "data": str(tmp_path / "data.jsonl")} for name in names]
    yield {"base": "zoo:llava", "models": models, "dtype": "float32"}
    SEEN.clear()


def merged(recipe: Mapping[str, object], folder: Path) -> dict[str, torch.Tensor]:
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump(dict(recipe)))
    merge(file, folder / "out")
    model = LlavaForConditionalGeneration.from_pretrained(folder / "out", dtype=torch.float32)
    return dict(model.state_dict())


def test_a_black_box_judges_the_model_that_is_written(
    recipe: dict[str, object], tmp_path: Path
) -> None:
    asked = {"evaluations": 1, "fitness": "test_searching_connectors:keep"}
    found = merged(recipe | {"method": "cma_es", "parameters": asked}, tmp_path)
    assert found.keys() == SEEN.keys()
    differ = [n for n in found if not torch.allclose(found[n], SEEN[n].float(), rtol=0, atol=1e-6)]
    assert differ == []


def test_a_connector_that_learned_has_coefficients_of_its_own(
    recipe: dict[str, object], tmp_path: Path
) -> None:
    asked = {"steps": 1, "learning_rate": 0.1, "start": 0.3}
    found = merged(recipe | {"method": "adamerging", "parameters": asked}, tmp_path)
    searched = yaml.safe_load((tmp_path / "out.search/found.yaml").read_text())
    weights = [model["weight"]["linear_1.weight"] for model in searched["models"]]
    assert all(abs(weight - 0.3) == pytest.approx(0.1, abs=1e-3) for weight in weights)
    # Towers did not learn: nothing to search in them.
    assert not any("vision" in name for name in searched["models"][0]["weight"])

    def projector(folder: Path) -> torch.Tensor:
        tensors = load_file(next(folder.glob("*.safetensors"))).items()
        return next(value.float() for name, value in tensors if name.endswith(PROJECTOR))

    base = projector(zoo_path("llava"))
    deltas = [projector(zoo_path(f"image-{name}")) - base for name in ("standard", "stressed")]
    expected = base + weights[0] * deltas[0] + weights[1] * deltas[1]
    torch.testing.assert_close(found[f"model.{PROJECTOR}"], expected, rtol=0, atol=1e-6)
