"""One expert under two modalities: towers stored once, the backbone merged once."""

from pathlib import Path

import pytest
import torch
from families_all import Shelf, load_composite, load_original, medium
from safetensors import safe_open

from omnicompose.errors import PlanError

pytestmark = pytest.mark.filterwarnings("ignore")


def names(folder: Path) -> list[str]:
    with safe_open(folder / "model.safetensors", "pt") as file:
        return list(file.keys())


@pytest.mark.parametrize("name", ["Qwen2_5_VL", "VideoLlava", "LlavaNextVideo"])
def test_pictures_and_clips_of_one_expert(shelf: Shelf, tmp_path: Path, name: str) -> None:
    expert = f"{name}, weight: 1.0"
    out = shelf.compose(tmp_path / "out", {"image": expert, "video": expert})
    assert any(one.startswith("model.image_encoder.") for one in names(out))
    assert not any(one.startswith("model.video_encoder.") for one in names(out))
    model, processor = load_composite(out)
    original = load_original(shelf, name)
    for modality, key in (("image", "images"), ("video", "videos")):
        theirs = original.inputs(modality, "a red ", "what is this?")
        ours = processor(
            text=f"a red <{modality}>what is this?",
            return_tensors="pt",
            **{key: [medium(modality)]},
        )
        expected = original.logits(theirs)
        with torch.no_grad():
            found = model(**ours).logits[..., : expected.shape[-1]]
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_the_backbone_counts_once(shelf: Shelf, tmp_path: Path) -> None:
    experts = {"image": "Qwen2_5_VL", "video": "Qwen2_5_VL", "audio": "AudioFlamingo3"}
    three = shelf.compose(tmp_path / "three", experts, "dtype: float32\n")
    two = shelf.compose(
        tmp_path / "two", {"image": "Qwen2_5_VL", "audio": "AudioFlamingo3"}, "dtype: float32\n"
    )
    query = "model.language_model.layers.0.self_attn.q_proj.weight"
    tensors = []
    for folder in (three, two):
        with safe_open(folder / "model.safetensors", "pt") as file:
            tensors.append(file.get_tensor(query))
    assert torch.equal(*tensors)


def test_one_expert_has_one_weight(shelf: Shelf, tmp_path: Path) -> None:
    experts = {"image": "Qwen2_5_VL, weight: 1.0", "video": "Qwen2_5_VL, weight: 0.5"}
    with pytest.raises(PlanError, match=r"gives it the weights \[1\.0, 0\.5\] under image and vid"):
        shelf.compose(tmp_path / "out", experts)
    experts = {"image": "Qwen2_5_VL", "video": "Qwen2_5_VL"}
    with pytest.raises(PlanError, match="image and video are one expert"):
        shelf.compose(tmp_path / "out", experts, "modality: emr\ntext: {method: emr}\n")
