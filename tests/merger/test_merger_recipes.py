"""What a merge recipe can say, tensor by tensor: coefficients, methods, what follows a merge."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from omnicompose.errors import PlanError, RecipeError
from omnicompose.merger import merge
from omnicompose.merging.registry import METHODS

LAYERS = 3
NAMES = [
    "model.embed_tokens.weight",
    *(
        f"model.layers.{layer}.{part}"
        for layer in range(LAYERS)
        for part in ("mlp.up_proj.weight", "self_attn.q_proj.weight", "input_layernorm.weight")
    ),
    "model.norm.weight",
    "lm_head.weight",
]
Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """base, m0 and m1: a backbone of three blocks as raw tensors."""
    folder = tmp_path_factory.mktemp("models")
    for number, place in enumerate(("base", "m0", "m1")):
        generator = torch.Generator().manual_seed(number)
        shapes = {name: (6,) if "norm" in name else (6, 6) for name in NAMES}
        save_file(
            {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()},
            folder / f"{place}.safetensors",
        )
    return folder


def run(models: Path, out: Path, text: str) -> tuple[Tensors, Tensors, list[Tensors]]:
    """Merged tensors, base and models."""
    recipe = models / "recipe.yaml"
    recipe.write_text(f"layout: raw\nbase: base.safetensors\n{text}")
    merge(recipe, out)
    base, *experts = (load_file(models / f"{place}.safetensors") for place in ("base", "m0", "m1"))
    return load_file(out / "model.safetensors"), base, experts


def models_of(first: str, second: str) -> str:
    return (
        f"models: [{{source: m0.safetensors, weight: {first}}}, "
        f"{{source: m1.safetensors, weight: {second}}}]\n"
    )


def check(found: Tensors, expected: Tensors) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, atol=2e-6, rtol=1e-5, msg=name)


def test_a_list_runs_over_depth_and_is_interpolated(models: Path, tmp_path: Path) -> None:
    text = models_of("[0, 1]", "[0.5]") + "method: task_arithmetic\n"
    found, base, (first, second) = run(models, tmp_path / "out", text)
    depths = {"embed": 0.0, "layers.0": 0.0, "layers.1": 0.5, "layers.2": 1.0}

    def depth(name: str) -> float:
        return next((value for part, value in depths.items() if part in name), 1.0)

    check(
        found,
        {
            name: base[name]
            + depth(name) * (first[name] - base[name])
            + 0.5 * (second[name] - base[name])
            for name in NAMES
        },
    )


def test_a_table_goes_by_pattern_and_may_lie_in_a_file(models: Path, tmp_path: Path) -> None:
    (models / "table.json").write_text('{"*.mlp.*": 0.25, "*norm*": 0, "*": 1}')
    text = models_of("table.json", "{'*layers.2*': 2, '*': 0.5}") + "method: task_arithmetic\n"
    found, base, (first, second) = run(models, tmp_path / "out", text)

    def of_first(name: str) -> float:
        return 0.25 if ".mlp." in name else 0.0 if "norm" in name else 1.0

    check(
        found,
        {
            name: base[name]
            + of_first(name) * (first[name] - base[name])
            + (2.0 if "layers.2" in name else 0.5) * (second[name] - base[name])
            for name in NAMES
        },
    )
    text = models_of("{'*.mlp.*': 1}", "1") + "method: task_arithmetic\n"
    with pytest.raises(PlanError, match=r"no pattern for 'lm_head\.weight'.*\"\*\""):
        run(models, tmp_path / "none", text)


def test_patterns_choose_method_parameters_and_policy(models: Path, tmp_path: Path) -> None:
    text = models_of("1", "1") + (
        "method: task_arithmetic\nparameters: {scale: 0.5}\noverrides:\n"
        "  - {match: '*.mlp.*', parameters: {scale: 2.0}}\n"
        "  - {match: '*norm*', method: linear}\n"
        "  - {match: '*layers.1.self_attn*', policy: base}\n"
        "  - {match: '*layers.2.self_attn*', policy: mean_delta}\n"
    )
    found, base, (first, second) = run(models, tmp_path / "out", text)

    def merged(name: str) -> torch.Tensor:
        total = first[name] + second[name] - 2 * base[name]
        if "norm" in name:
            return (first[name] + second[name]) / 2
        if "layers.1.self_attn" in name:
            return base[name]
        scale = 2.0 if ".mlp." in name else 0.5
        return base[name] + scale * total

    check(found, {name: merged(name) for name in NAMES})


@pytest.mark.parametrize("method", ["ties", "tsv", "dare_ties"])
def test_lines_scales_any_merged_delta_by_depth(method: str, models: Path, tmp_path: Path) -> None:
    text = models_of("1", "1") + f"method: {method}\n"
    plain, base, _ = run(models, tmp_path / "plain", text)
    lines = "then: [{method: lines, parameters: {alpha: 0.2, beta: 0.6}}]\n"
    found, _, _ = run(models, tmp_path / "out", text + lines)
    factors = {"layers.0": 0.2, "layers.1": 0.5, "layers.2": 0.8}

    def factor(name: str) -> float:
        return next((value for part, value in factors.items() if part in name), 0.2)

    scaled = {n: base[n] + factor(n) * (plain[n] - base[n]) for n in NAMES}
    check(found, scaled)


def test_steps_follow_one_another_and_overrides_have_their_own(
    models: Path, tmp_path: Path
) -> None:
    text = models_of("1", "1") + (
        "method: task_arithmetic\nthen:\n"
        "  - {method: task_arithmetic, parameters: {scale: 0.5}}\n"
        "  - {method: task_arithmetic, parameters: {scale: 0.5}}\n"
        "overrides: [{match: '*norm*', then: []}]\n"
    )
    found, base, (first, second) = run(models, tmp_path / "out", text)
    check(
        found,
        {
            name: base[name]
            + (1.0 if "norm" in name else 0.25) * (first[name] + second[name] - 2 * base[name])
            for name in NAMES
        },
    )


def test_steps_that_cannot_follow_are_refused(models: Path, tmp_path: Path) -> None:
    text = models_of("1", "1") + "method: linear\n"
    with pytest.raises(PlanError, match="then: method 'slerp' cannot follow a merge"):
        run(models, tmp_path / "out", text + "then: [{method: slerp}]\n")
    with pytest.raises(PlanError, match="then: method 'emr' cannot follow a merge"):
        run(models, tmp_path / "out", text + "then: [{method: emr}]\n")
    with pytest.raises(RecipeError, match=r"found 'liness'.*Did you mean lines"):
        run(models, tmp_path / "out", text + "then: [{method: liness}]\n")
    recipe = models / "baseless.yaml"
    recipe.write_text(f"layout: raw\n{text}then: [{{method: lines}}]\n")
    with pytest.raises(PlanError, match="then: method 'lines' works on the distance from a base"):
        merge(recipe, tmp_path / "out")


def test_layer_swap_stacks_blocks_of_two_models(models: Path, tmp_path: Path) -> None:
    parameters = "{bottom: 1, top: 1, bottom_transition: 0, top_transition: 0, head: second}"
    text = models_of("1", "1") + f"method: layer_swap\nparameters: {parameters}\n"
    found, _, (first, second) = run(models, tmp_path / "out", text)
    for name, tensor in found.items():
        inner = "layers.1" in name or name in ("model.norm.weight", "lm_head.weight")
        assert torch.equal(tensor, (second if inner else first)[name]), name


UNWEIGHTED = sorted(
    name
    for name, method in METHODS.items()
    if not method.spec.weighted and method.spec.arity[1] != 1 and method.spec.measures is None
)


@pytest.mark.parametrize("method", UNWEIGHTED)
def test_unequal_weights_of_a_method_that_ignores_them_are_refused(
    method: str, models: Path, tmp_path: Path
) -> None:
    text = models_of("1", "0.5") + f"method: {method}\n"
    with pytest.raises(PlanError, match=f"method '{method}' does not weight its models.*1, 0.5"):
        run(models, tmp_path / "out", text)
    run(models, tmp_path / "equal", models_of("0.5", "0.5") + f"method: {method}\n")


def test_a_composite_refuses_them_too(tiny: Path, tmp_path: Path) -> None:
    from omnicompose.plan import make_plan
    from omnicompose.recipe import read_compose_recipe

    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"base: {tiny}/base\nexperts: {{image: {{source: {tiny}/image, weight: 2}}, audio: "
        f"{{source: {tiny}/audio}}}}\ntext: {{method: sce}}\n"
    )
    with pytest.raises(PlanError, match="method 'sce' does not weight its models"):
        make_plan(read_compose_recipe(recipe))


def test_roles_that_are_not_named_stay_with_the_method(models: Path, tmp_path: Path) -> None:
    text = models_of("1", "1") + "method: linear\nroles: {embedding: base}\n"
    found, base, (first, second) = run(models, tmp_path / "out", text)
    assert torch.equal(found["model.embed_tokens.weight"], base["model.embed_tokens.weight"])
    name = "model.norm.weight"
    torch.testing.assert_close(found[name], (first[name] + second[name]) / 2)


def test_shards_and_the_seed_are_said_in_the_recipe(models: Path, tmp_path: Path) -> None:
    text = models_of("1", "1") + "method: dare_linear\nparameters: {density: 0.5}\n"
    found, _, _ = run(models, tmp_path / "a", text)
    recipe = models / "recipe.yaml"
    recipe.write_text(recipe.read_text() + "shard_size: 500B\n")
    merge(recipe, tmp_path / "b")
    shards = sorted((tmp_path / "b").glob("model-*.safetensors"))
    assert len(shards) > 1
    pieces = {name: tensor for shard in shards for name, tensor in load_file(shard).items()}
    assert all(torch.equal(pieces[name], tensor) for name, tensor in found.items())
    other, _, _ = run(models, tmp_path / "c", text + "seed: 1\n")
    assert not all(torch.equal(other[name], tensor) for name, tensor in found.items())
