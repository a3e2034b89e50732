"""`output: bundle`: each expert comes back from one shared delta, a mask and a scale."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from omnicompose.bundle import load_bundle, open_bundle, unpacked
from omnicompose.errors import ExportError, PlanError
from omnicompose.merger import merge
from omnicompose.merging.method import MergeContext, TensorGroup
from omnicompose.merging.registry import METHODS, check_parameters
from omnicompose.plan import make_merge_plan
from omnicompose.recipe import read_merge_recipe
from omnicompose.verification import recompute

SHAPES = {"a.weight": (12, 9), "b.weight": (7, 5), "b.bias": (7,), "steps": (3,)}
EXPERTS = ("m0", "m1", "m2")


@pytest.fixture
def models(tmp_path: Path) -> Path:
    for number, place in enumerate(("base", *EXPERTS)):
        generator = torch.Generator().manual_seed(number)
        tensors = {n: torch.randn(shape, generator=generator) for n, shape in SHAPES.items()}
        tensors["steps"] = torch.arange(3)
        (tmp_path / place).mkdir()
        save_file(tensors, tmp_path / place / "model.safetensors")
    return tmp_path


def run(folder: Path, method: str, more: str = "", out: str = "out") -> Path:
    recipe = folder / "recipe.yaml"
    sources = ", ".join(f"{{source: {name}, weight: 1}}" for name in EXPERTS)
    recipe.write_text(
        f"layout: raw\nbase: base\nmodels: [{sources}]\nmethod: {method}\noutput: bundle\n{more}"
    )
    merge(recipe, folder / out)
    return folder / out


def expected(folder: Path, method: str, expert: int) -> dict[str, torch.Tensor]:
    """Expert number `expert` by the method itself, statistics of the whole model added up."""
    base, *experts = (load_file(folder / n / "model.safetensors") for n in ("base", *EXPERTS))
    groups = [
        TensorGroup(
            name=name,
            shape=tuple(base[name].shape),
            base=base[name],
            experts=tuple(tensors[name] for tensors in experts),
            expert_names=EXPERTS,
            weights=(1.0,) * 3,
        )
        for name in SHAPES
        if name != "steps"
    ]
    total: dict[str, torch.Tensor] = {}
    context = MergeContext(parameters=check_parameters(method, {}))
    for group in groups if METHODS[method].spec.num_passes > 1 else ():
        for key, value in METHODS[method].observe(group, context, 0).items():
            total[key] = total.get(key, 0) + value
    context = MergeContext(parameters=context.parameters, statistics=total)
    found = {"steps": base["steps"]}
    for group in groups:
        part = METHODS[method].expert_part(group, context, expert)
        shared = METHODS[method].merge(group, context) - group.base
        found[group.name] = group.base + part.scale * part.mask * shared
    return found


@pytest.mark.parametrize("method", ["emr", "tall"])
def test_every_expert_comes_back_as_the_method_says(method: str, models: Path) -> None:
    out = run(models, method)
    assert open_bundle(out).experts == EXPERTS
    for number, expert in enumerate(EXPERTS):
        found = load_bundle(out, expert=expert)
        wanted = expected(models, method, number)
        assert found.keys() == wanted.keys()
        for name, tensor in wanted.items():
            torch.testing.assert_close(found[name], tensor, atol=1e-5, rtol=1e-5)
    assert recompute(out, models, every_tensor=True).num_checked > 0


@pytest.mark.parametrize("directions", [0, 1, 2, 4])
def test_directions_bring_experts_back(directions: int, models: Path) -> None:
    out = run(models, "rmm", f"parameters: {{directions: {directions}}}\n")
    base, *experts = (load_file(models / n / "model.safetensors") for n in ("base", *EXPERTS))
    found = [load_bundle(out, expert=expert) for expert in EXPERTS]
    for name in ("a.weight", "b.bias"):
        moved = torch.stack([expert[name] - base[name] for expert in experts])
        rows = moved if moved.dim() == 3 else moved[:, None]
        centred = (rows - rows.mean(0)).double().transpose(0, 1)
        left = torch.linalg.svdvals(centred)[:, directions:].square().sum()
        error = sum(
            (one[name] - e[name]).square().sum() for one, e in zip(found, experts, strict=True)
        )
        assert float(error) == pytest.approx(float(left), rel=1e-3, abs=1e-6)
    assert recompute(out, models, every_tensor=True).num_checked > 0


def test_the_unified_model_is_what_a_plain_merge_writes(models: Path) -> None:
    unified = load_bundle(run(models, "emr"))
    recipe = models / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("output: bundle", "output: model"))
    merge(recipe, models / "plain")
    for name, tensor in load_file(models / "plain/model.safetensors").items():
        torch.testing.assert_close(unified[name], tensor, atol=1e-6, rtol=1e-6)


def test_a_bundle_is_smaller_than_its_experts(models: Path) -> None:
    out = run(models, "emr", "dtype: bfloat16\n")
    tensors = load_file(out / "model.safetensors")
    elements = sum(torch.Size(shape).numel() for shape in SHAPES.values()) - 3
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    masks_and_scales = 3 * (elements / 8 + 3 * (4 + 1))
    assert size <= 2 * elements + masks_and_scales
    assert tensors["a.weight.mask.1"].dtype == torch.uint8
    assert load_bundle(out, expert="m1")["a.weight"].dtype == torch.bfloat16


def test_a_whole_model_comes_back_and_answers(tiny: Path, tmp_path: Path) -> None:
    import tiny_experts

    for seed in (1, 2):
        tiny_experts.write_base(tmp_path / f"m{seed}", seed=seed)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"base: {tiny}/base\nmodels: [{{source: m1}}, {{source: m2}}]\nmethod: emr\n"
        "output: bundle\noverrides: [{match: '*norm*', method: linear}]\n"
    )
    merge(recipe, tmp_path / "out")
    assert not (tmp_path / "out/config.json").exists()
    assert (tmp_path / "out/model/tokenizer.json").is_file()
    weights = load_bundle(tmp_path / "out", expert="m2")
    model = AutoModelForCausalLM.from_pretrained(tiny / "base")
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert (missing, unexpected) == (["lm_head.weight"], [])
    assert model(torch.tensor([[5, 6]])).logits.isfinite().all()


def test_what_is_no_bundle_is_refused(models: Path, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="output: bundle needs a method that gives one"):
        run(models, "task_arithmetic")
    with pytest.raises(PlanError, match="nothing can follow it"):
        run(models, "emr", "then: [{method: lines}]\n")
    with pytest.raises(ExportError, match=r"bundle\.json: no bundle"):
        load_bundle(models / "base", expert="m0")
    recipe = models / "union.yaml"
    recipe.write_text(
        "base: base\nmodels: [{source: m0}]\nmethod: emr\noutput: bundle\nlayout: raw\n"
        "vocabulary: union\n"
    )
    with pytest.raises(PlanError, match="union"):
        make_merge_plan(read_merge_recipe(recipe))
    out = run(models, "emr")
    with pytest.raises(ExportError, match="found no expert 'm7'; expected one of m0, m1, m2"):
        load_bundle(out, expert="m7")
    facts = json.loads((out / "bundle.json").read_text())
    (out / "bundle.json").write_text(json.dumps(facts | {"format_version": 9}))
    with pytest.raises(ExportError, match="expected omnicompose-bundle 1"):
        load_bundle(out, expert="m0")


def test_another_base_is_refused(models: Path) -> None:
    out = run(models, "emr")
    shutil.copytree(models / "base", models / "copy")
    copied = load_bundle(out, expert="m0", base=str(models / "copy"))
    assert torch.equal(copied["a.weight"], load_bundle(out, expert="m0")["a.weight"])
    with pytest.raises(ExportError, match="is not the file of the base that the bundle was made"):
        load_bundle(out, expert="m0", base=str(models / "m1"))
    shutil.rmtree(models / "base")
    with pytest.raises(ExportError, match=r"its base 'base' cannot be opened"):
        load_bundle(out, expert="m0")


def test_masks_are_packed_from_the_lowest_bit() -> None:
    packed = torch.tensor([0b00000101, 0b1], dtype=torch.uint8)
    assert unpacked(packed, 9).tolist() == [True, False, True, *[False] * 5, True]
