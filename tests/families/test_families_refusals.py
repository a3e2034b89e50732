"""Experts that do not belong together, or lack a part, are refused with the numbers."""

import shutil
from pathlib import Path

import pytest
import torch
from families_all import Shelf, load_composite, medium
from safetensors.torch import load_file, save_file

from omnicompose.errors import ModelInputError, PlanError, SourceError
from omnicompose.plan import make_plan
from omnicompose.recipe import read_compose_recipe

ATTENTION = "self_attn.q_proj.weight"


def moved(folder: Path, out: Path, size: float, seed: int) -> Path:
    """A copy of an expert whose backbone went `size` in a random direction."""
    shutil.copytree(folder, out)
    tensors = load_file(folder / "model.safetensors")
    generator = torch.Generator().manual_seed(seed)
    names = sorted(name for name in tensors if "language_model.model.layers" in name)
    for name in names:
        if tensors[name].ndim == 2:
            step = torch.randn(tensors[name].shape, generator=generator)
            tensors[name] += size * step * tensors[name].std()
    save_file(tensors, out / "model.safetensors")
    return out


def plan(tmp_path: Path, base: Path, image: Path, audio: Path, more: str = "") -> object:
    recipe = tmp_path / "recipe.yaml"
    experts = f"  image: {{source: {image}}}\n  audio: {{source: {audio}}}\n"
    recipe.write_text(f"base: {base}\nexperts:\n{experts}{more}")
    return make_plan(read_compose_recipe(recipe))


@pytest.fixture
def group(shelf: Shelf) -> tuple[Path, Path, Path]:
    image, audio = shelf.expert("InternVL"), shelf.expert("AudioFlamingo3")
    return shelf.folder / "base-qwen2", image, audio


def test_experts_of_one_base_are_taken(tmp_path: Path, group: tuple[Path, Path, Path]) -> None:
    plan(tmp_path, *group)


def test_two_experts_of_the_instruct_model_are_not_the_bases(
    tmp_path: Path, group: tuple[Path, Path, Path]
) -> None:
    base, image, audio = group
    image = moved(image, tmp_path / "image", 0.2, seed=5)
    audio = moved(audio, tmp_path / "audio", 0.2, seed=5)
    with pytest.raises(PlanError, match=r"share the way from .* cosine 0\.\d+ \(expected close"):
        plan(tmp_path, base, image, audio)
    plan(tmp_path, base, image, audio, "allow_different_base: true\n")


def test_an_instruct_expert_beside_one_of_the_base(
    tmp_path: Path, group: tuple[Path, Path, Path]
) -> None:
    base, image, audio = group
    image = moved(image, tmp_path / "image", 0.4, seed=5)
    with pytest.raises(PlanError, match=r"at relative distance 0\.\d+ from .*, .* at 0\.0\d+: "):
        plan(tmp_path, base, image, audio)


def test_a_missing_processor_is_found_before_any_work(
    tmp_path: Path, group: tuple[Path, Path, Path]
) -> None:
    base, image, audio = group
    bare = tmp_path / "image"
    shutil.copytree(image, bare)
    (bare / "processor_config.json").unlink()
    with pytest.raises(SourceError, match=r"no usable preprocessor configuration for image in .*/"):
        plan(tmp_path, base, bare, audio)


def test_a_processor_without_its_package_is_found_before_any_work(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = shelf.expert("SmolVLM")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"base: {shelf.folder / 'base-llama'}\nexperts:\n  image: {{source: {image}}}\n"
    )
    monkeypatch.setattr("omnicompose.experts.refusals.find_spec", lambda package: None)
    with pytest.raises(SourceError, match=r"needs num2words, .* Run `pip install num2words`\."):
        make_plan(read_compose_recipe(recipe))


def test_a_composite_says_which_package_its_processor_lacks(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, processor = load_composite(shelf.compose(tmp_path / "out", {"image": "SmolVLM"}))
    module = "transformers.models.smolvlm.processing_smolvlm"
    monkeypatch.setattr(f"{module}.num2words", None)
    with pytest.raises(ModelInputError, match=r"image: .* `pip install num2words`"):
        processor(text="<image>", images=[medium("image")])


def test_another_tokenizer_is_refused(tmp_path: Path, group: tuple[Path, Path, Path]) -> None:
    base, image, audio = group
    other = tmp_path / "image"
    shutil.copytree(image, other)
    tokenizer = other / "tokenizer.json"
    text = tokenizer.read_text()
    tokenizer.write_text(text.replace('"a": ', '"strange": ', 1))
    with pytest.raises(PlanError, match="ordinary tokens are not the base's"):
        plan(tmp_path, base, other, audio)
    tokenizer.write_text(text.replace('"merges": [', '"merges": [["a", "a"], ', 1))
    with pytest.raises(PlanError, match="puts words together by other merges"):
        plan(tmp_path, base, other, audio)
