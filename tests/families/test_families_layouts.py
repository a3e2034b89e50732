"""Every on-disk layout of a family opens by headers alone, every tensor accounted for."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from families_all import FAMILIES, Shelf, load_original
from safetensors.torch import load_file, save_file

from omnicompose.errors import SourceError
from omnicompose.experts.checkpoint import open_checkpoint
from omnicompose.families import FAMILIES as ENTRIES
from omnicompose.tensors.source import read_tensor

WITH_VISION_MODEL = ("LlavaNext", "LlavaNextVideo", "LlavaOnevision", "VipLlava", "VideoLlava")


def parts(folder: Path) -> set[tuple[str, str, tuple[int, ...]]]:
    """Every tensor as part, name inside it and shape."""
    opened = open_checkpoint(str(folder), folder)
    infos = opened.source.infos()
    return {(part.part, part.name, infos[name].shape) for name, part in opened.parts.items()}


def rewritten(folder: Path, out: Path, rename: Callable[[str], str]) -> Path:
    shutil.copytree(folder, out)
    tensors = load_file(folder / "model.safetensors")
    save_file({rename(name): tensor for name, tensor in tensors.items()}, out / "model.safetensors")
    return out


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FAMILIES)
def test_old_and_new_names_are_the_same_tensors(shelf: Shelf, tmp_path: Path, name: str) -> None:
    old = shelf.expert(name)
    original = load_original(shelf, name)
    original.model.save_pretrained(tmp_path / "new", save_original_format=False)
    assert parts(old) == parts(tmp_path / "new")
    memory = {tuple(tensor.shape) for tensor in original.model.state_dict().values()}
    assert {shape for _, _, shape in parts(old)} <= memory


@pytest.mark.parametrize("name", WITH_VISION_MODEL)
def test_the_hubs_extra_level_in_vision_towers(shelf: Shelf, tmp_path: Path, name: str) -> None:
    folder = shelf.expert(name)
    towers = ("vision_tower.", "image_tower.", "video_tower.")

    def rename(tensor: str) -> str:
        start = next((tower for tower in towers if tensor.startswith(tower)), None)
        plain = tensor.replace("vision_model.", "", 1)
        return tensor if start is None else start + "vision_model." + plain[len(start) :]

    assert parts(rewritten(folder, tmp_path / "out", rename)) == parts(folder)


def test_a_thinker_inside_a_whole_omni_checkpoint(shelf: Shelf, tmp_path: Path) -> None:
    folder = shelf.expert("Qwen2_5OmniThinker")
    prefixed = rewritten(folder, tmp_path / "out", lambda name: f"thinker.{name}")
    assert parts(prefixed) == parts(folder)


def test_a_whole_omni_checkpoint_leaves_its_talker_aside(shelf: Shelf, tmp_path: Path) -> None:
    folder = shelf.expert("Qwen2_5OmniThinker")
    out = rewritten(folder, tmp_path / "out", lambda name: f"thinker.{name}")
    tensors = load_file(out / "model.safetensors")
    save_file(tensors | {"talker.head": torch.zeros(2)}, out / "model.safetensors")
    thinker = json.loads((out / "config.json").read_text())
    whole = {
        "model_type": "qwen2_5_omni",
        "architectures": ["Qwen2_5OmniModel"],
        "thinker_config": thinker,
    }
    (out / "config.json").write_text(json.dumps(whole))
    opened = open_checkpoint("x", out)
    assert opened.text_config["hidden_size"] == thinker["text_config"]["hidden_size"]
    assert {part for part in parts(out) if part[0] != "unused"} == parts(folder)
    described = opened.encoder("audio")
    assert not any("visual" in name for name in described.weights.origins)


def test_a_tensor_that_no_layout_knows_is_named(shelf: Shelf, tmp_path: Path) -> None:
    folder = shelf.expert("LlavaNext")
    out = rewritten(folder, tmp_path / "out", lambda name: name.replace("image_newline", "novel"))
    with pytest.raises(SourceError, match="tensor 'novel' is in no known layout"):
        open_checkpoint("x", out)


def test_nothing_is_read_but_headers(shelf: Shelf, tmp_path: Path) -> None:
    """A checkpoint whose weights are a hole in the file opens all the same."""
    folder = shelf.expert("Qwen2_5_VL")
    out = tmp_path / "out"
    shutil.copytree(folder, out)
    weights = out / "model.safetensors"
    content = weights.read_bytes()
    length = 8 + int.from_bytes(content[:8], "little")
    with weights.open("wb") as file:
        file.write(content[:length])
        file.truncate(len(content))
    assert parts(out) == parts(folder)


def test_every_entry_names_classes_of_transformers() -> None:
    import transformers

    for architecture, entry in ENTRIES.items():
        if entry.native is not None:
            base_class = getattr(transformers, entry.native.base_class)
            config = base_class.config_class()
            for media in entry.native.media.values():
                assert all(hasattr(config, name) for name in media.ids), architecture


def test_the_old_flat_configuration_of_qwen2_vl(shelf: Shelf, tmp_path: Path) -> None:
    folder = shelf.expert("Qwen2VL")
    out = tmp_path / "out"
    shutil.copytree(folder, out)
    config = json.loads((out / "config.json").read_text())
    text = config.pop("text_config")
    kept = {key: value for key, value in text.items() if key not in ("model_type", "dtype")}
    (out / "config.json").write_text(json.dumps(kept | config))
    opened = open_checkpoint("x", out)
    assert opened.text_config["hidden_size"] == text["hidden_size"]
    assert torch.tensor(opened.text_config["rope_parameters"]["mrope_section"]).sum() == 4


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_shards_in_half_precision(shelf: Shelf, tmp_path: Path, dtype: torch.dtype) -> None:
    folder = shelf.expert("InternVL")
    model = load_original(shelf, "InternVL").model.to(dtype)
    model.save_pretrained(tmp_path, max_shard_size="60KB")
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 1
    assert parts(tmp_path) == parts(folder)
    opened = open_checkpoint("x", tmp_path)
    weights, name = opened.part("backbone").source, "model.layers.1.mlp.up_proj.weight"
    info = weights.infos()[name]
    assert info.dtype == dtype
    inner = model.model.language_model.layers[1].mlp.up_proj.weight
    found = read_tensor(weights, name, 0, info.num_elements).view(info.shape)
    assert torch.equal(found, inner)
    shards[0].unlink()
    with pytest.raises(SourceError, match=r"is missing\. Download the checkpoint again"):
        open_checkpoint("x", tmp_path)
