"""LoRA experts merged by spectral methods: exact on the factors, and no dense delta is formed."""

from pathlib import Path

import pytest
import tiny_experts
import torch
from safetensors.torch import load_file, save_file

from omnicompose.composer import compose
from omnicompose.merger import merge
from omnicompose.merging.registry import METHODS
from omnicompose.plan import make_merge_plan
from omnicompose.recipe import read_merge_recipe
from omnicompose.tensors import patched

FACTORED = sorted(name for name, method in METHODS.items() if method.spec.factored_ok)
KEYS = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


@pytest.fixture(scope="module")
def loras(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """base, two adapters a and b on it, and dense-a and dense-b with their products added."""
    folder = tmp_path_factory.mktemp("loras")
    base = tiny_experts.write_base(folder / "base")
    for seed, name in enumerate("ab"):
        tiny_experts.write_lora(folder / name, base, seed=seed)
        tensors = load_file(base / "model.safetensors")
        factors = load_file(folder / name / "adapter_model.safetensors")
        for key in list(tensors):
            stem = f"base_model.model.{key.removesuffix('.weight')}.lora_"
            if f"{stem}A.weight" in factors:
                product = factors[f"{stem}B.weight"] @ factors[f"{stem}A.weight"]
                tensors[key] = tensors[key] + 2.0 * product
        (folder / f"dense-{name}").mkdir()
        config = (base / "config.json").read_text()
        (folder / f"dense-{name}/config.json").write_text(config)
        save_file(tensors, folder / f"dense-{name}/model.safetensors")
    return folder


def run(loras: Path, out: Path, sources: tuple[str, str], method: str, more: str = "") -> dict:
    recipe = loras / "recipe.yaml"
    models = ", ".join(
        f"{{source: {source}, name: m{i}, weight: 1}}" for i, source in enumerate(sources)
    )
    recipe.write_text(f"base: base\nmodels: [{models}]\nmethod: {method}\n{more}")
    merge(recipe, out)
    return load_file(out / "model.safetensors")


@pytest.mark.parametrize("method", FACTORED)
def test_adapters_merge_exactly_without_dense_deltas(
    method: str, loras: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run(loras, tmp_path / "dense", ("dense-a", "dense-b"), method)
    monkeypatch.setattr(patched, "add_product", None)  # a dense expert cannot be formed any more
    found = run(loras, tmp_path / "factored", ("base+a", "base+b"), method)
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, atol=3e-4, rtol=1e-3, msg=name)


def test_an_iterative_solver_gets_dense_deltas(loras: Path, tmp_path: Path) -> None:
    more = "parameters: {solver: adam, steps: 3}\n"
    expected = run(loras, tmp_path / "dense", ("dense-a", "dense-b"), "wudi", more)
    found = run(loras, tmp_path / "factored", ("base+a", "base+b"), "wudi", more)
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, atol=1e-4, rtol=1e-3, msg=name)


def test_factors_are_used_only_where_they_are_deltas_to_the_base(
    loras: Path, tmp_path: Path
) -> None:
    tiny_experts.write_base(tmp_path / "other", seed=9)
    texts = {
        "models: [{source: base+a}, {source: base+b}]": True,
        f"models: [{{source: {tmp_path}/other+a}}, {{source: base+b}}]": False,
        "models: [{source: dense-a}, {source: base+b}]": False,
    }
    for text, expected in texts.items():
        recipe = loras / "plan.yaml"
        recipe.write_text(f"base: base\nmethod: tsv\n{text}\n")
        entries = make_merge_plan(read_merge_recipe(recipe)).plan.entries
        jobs = [one.job for one in entries if one.output.name.split(".")[-2] in KEYS]
        assert len(jobs) == 14
        assert {job.use_factors for job in jobs} == {expected}


def test_a_composite_merges_on_factors_too(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"base: {tiny}/base\nexperts: {{image: {{source: {tiny}/image}}, audio: {{source: "
        f"{tiny}/audio}}}}\ntext: {{method: tsv}}\n"
    )
    monkeypatch.setattr(patched, "add_product", None)
    compose(recipe, tmp_path / "out")
    monkeypatch.undo()
    name = "layers.1.mlp.up_proj"
    base = load_file(tiny / "base/model.safetensors")[f"model.{name}.weight"]
    moved = []
    for file, prefix in (("image", "language_model."), ("audio/adapter", "")):
        factors = load_file(tiny / file / "adapter_model.safetensors")
        path = f"base_model.model.model.{prefix}{name}"
        delta = 2.0 * factors[f"{path}.lora_B.weight"] @ factors[f"{path}.lora_A.weight"]
        moved.append(base + 0.0 + delta)
    from omnicompose.merging.method import MergeContext, TensorGroup
    from omnicompose.merging.registry import check_parameters

    group = TensorGroup(
        name=name,
        shape=tuple(base.shape),
        base=base,
        experts=tuple(moved),
        expert_names=("image", "audio"),
        weights=(0.5, 0.5),
    )
    expected = METHODS["tsv"].merge(group, MergeContext(parameters=check_parameters("tsv", {})))
    merged = load_file(tmp_path / "out/model.safetensors")
    found = merged[f"model.language_model.{name}.weight"]
    torch.testing.assert_close(found, expected, atol=3e-4, rtol=1e-3)
