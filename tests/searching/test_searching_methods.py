"""Every searching method by its recipe key, on models of a few thousand weights."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from searching_recipes import ground_of, write

from omnicompose.errors import CalibrationError, PlanError, RecipeError, TuningError
from omnicompose.merger import merge
from omnicompose.merging.listing import method_rows
from omnicompose.merging.registry import method_named
from omnicompose.merging.searched import SEARCHED
from omnicompose.recipe import read_merge_recipe
from omnicompose.searching import descent
from omnicompose.searching.adamerging import entropy
from omnicompose.searching.adamms import changed, grid
from omnicompose.searching.bench import open_bench
from omnicompose.searching.es_merging import block_coefficients, distances
from omnicompose.searching.expert_merging import chunk_counts
from omnicompose.searching.frank_wolfe import chosen, gap, one_hot
from omnicompose.searching.search import searched

MATRIX = "model.layers.1.mlp.up_proj.weight"


@pytest.mark.parametrize("method", sorted(SEARCHED))
def test_a_recipe_key_is_enough(models: Path, tmp_path: Path, method: str) -> None:
    out = tmp_path / "out"
    merge(write(models, method), out)
    merged = load_file(out / "model.safetensors")
    assert all(torch.isfinite(tensor).all() for tensor in merged.values())
    base = load_file(models / "m0/model.safetensors")
    assert not torch.equal(merged[MATRIX], base[MATRIX])
    # What was found is a recipe of its own, which gives the same bytes.
    merge(tmp_path / "out.search/found.yaml", tmp_path / "again")
    again = load_file(tmp_path / "again/model.safetensors")
    assert all(torch.equal(merged[name], again[name]) for name in merged)


def test_every_method_says_what_data_it_needs() -> None:
    rows = {str(row["name"]): row for row in method_rows()}
    for name in SEARCHED:
        assert rows[name]["data"]
    assert "omnicompose collect --what gram" in str(rows["regmean"]["data"])
    assert rows["ties"]["data"] == ""
    with pytest.raises(RecipeError, match="searches its coefficients on data"):
        method_named("adamerging")


def test_slopes_are_inner_products_with_deltas(models: Path, tmp_path: Path) -> None:
    ground = ground_of(models, "adamerging", tmp_path)
    bench, opened = open_bench(ground.recipe, ground.subject, only_matrices=True)
    example = ground.examples(with_replies=False)[0][0]
    with opened:
        table = bench.table(0.3)

        def loss() -> torch.Tensor:
            bench.take(table)
            return entropy(bench.logits(example)[-1:])

        bench.learning(True)
        torch.autograd.backward(loss())
        slopes = bench.slopes()
        bench.learning(False)
        number = next(i for i, one in enumerate(bench.moved) if one.name == MATRIX)
        step = 0.25  # entropies differ by much more than fp32 rounds
        table[number][1] += step
        above = float(loss())
        table[number][1] -= 2 * step
        numeric = (above - float(loss())) / (2 * step)
    assert float(slopes[number][1]) == pytest.approx(numeric, rel=0.05, abs=5e-5)


def test_no_steps_are_task_arithmetic_at_the_start(models: Path, tmp_path: Path) -> None:
    merge(write(models, "adamerging", {"steps": 0, "only_matrices": False}), tmp_path / "out")
    plain = yaml.safe_load(write(models, "adamerging", data=False).read_text())
    plain |= {"method": "task_arithmetic", "parameters": {"scale": 0.3}}
    for entry in plain["models"]:
        entry["weight"] = 1
    (tmp_path / "plain.yaml").write_text(yaml.safe_dump(plain))
    merge(tmp_path / "plain.yaml", tmp_path / "plain")
    expected = load_file(tmp_path / "plain/model.safetensors")
    for name, tensor in load_file(tmp_path / "out/model.safetensors").items():
        torch.testing.assert_close(tensor, expected[name], atol=1e-6, rtol=1e-5)


def test_an_interrupted_descent_goes_on(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = read_merge_recipe(write(models, "adamerging"))
    whole = searched(recipe, tmp_path / "whole", lambda _line: None)
    real = descent._keep

    def dying(path: Path, step: int, *rest: object) -> None:
        real(path, step, *rest)  # type: ignore[arg-type]
        if step == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(descent, "_keep", dying)
    with pytest.raises(KeyboardInterrupt):
        searched(recipe, tmp_path / "cut", lambda _line: None)
    monkeypatch.undo()
    lines: list[str] = []
    found = searched(recipe, tmp_path / "cut", lines.append)
    assert len(lines) == 1
    assert [m.weight for m in found.models] == [m.weight for m in whole.models]
    other = recipe.model_copy(update={"seed": 5})
    with pytest.raises(TuningError, match="state of another search"):
        searched(other, tmp_path / "cut", lambda _line: None)


def test_a_loss_that_is_no_number_is_said(tmp_path: Path) -> None:
    how = descent.Descent(steps=2, rate=lambda _step: 0.1)
    start = [torch.zeros(1, 1)]
    with pytest.raises(TuningError, match="step 1: found a loss of nan"):
        descent.descend(start, lambda _s, t: (float("nan"), t), how, tmp_path / "s", {})


def test_descent_finds_the_bottom_of_a_bowl(tmp_path: Path) -> None:
    how = descent.Descent(steps=300, rate=lambda _step: 0.05, low=0.0, high=1.0)

    def slope(_step, table):
        return float((table[0] - 0.7).square().sum()), [2 * (table[0] - 0.7)]

    found = descent.descend([torch.zeros(2, 1)], slope, how, tmp_path / "s.safetensors", {})
    torch.testing.assert_close(found[0], torch.full((2, 1), 0.7), atol=1e-2, rtol=0)


def test_data_and_labels_and_base_are_missed(models: Path, tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="searches on data, and e1, e2 give none"):
        merge(write(models, "adamerging", data=False), tmp_path / "out")
    (models / "a.jsonl").rename(models / "kept")
    (models / "a.jsonl").write_text('{"content": "what?"}\n')
    try:
        with pytest.raises(CalibrationError, match="line 1 has no `reply`"):
            merge(write(models, "fw_merging"), tmp_path / "out")
    finally:
        (models / "kept").rename(models / "a.jsonl")
    recipe = read_merge_recipe(write(models, "adamerging")).model_copy(update={"base": None})
    with pytest.raises(PlanError, match=r"names none. Add `base:`"):
        searched(recipe, tmp_path, lambda _line: None)


def test_settings_must_be_numbers(models: Path, tmp_path: Path) -> None:
    given = {"inner": "ties", "settings": "combine"}
    with pytest.raises(RecipeError, match="expected numeric settings of 'ties'"):
        merge(write(models, "cma_es", given), tmp_path / "out")


def test_chunks_follow_importance() -> None:
    shares = torch.tensor([4.0, 1.0, 1.0])
    assert chunk_counts(shares / shares.sum(), 6, 0.5) == [3, 1, 1]


def test_frank_wolfe_takes_the_best_vertex_of_a_linear_loss(models: Path, tmp_path: Path) -> None:
    ground = ground_of(models, "fw_merging", tmp_path)
    bench, opened = open_bench(ground.recipe, ground.subject, only_matrices=True)
    with opened, ExitStack():
        vertices = [one_hot(bench, i) for i in (0, 1)]
        slopes = [torch.tensor([[1.0], [-1.0]]) for _ in bench.moved]
        slopes[0] = torch.tensor([[-1.0], [3.0]])
        whole = chosen(slopes, vertices, per_tensor=False)
        assert all(torch.equal(a, b) for a, b in zip(whole, vertices[1], strict=True))
        each = chosen(slopes, vertices, per_tensor=True)
        assert torch.equal(each[0], vertices[0][0])
        assert torch.equal(each[1], vertices[1][1])
        assert gap(slopes, vertices[0], each) >= 0.0


def test_adamms_prefers_the_plateau() -> None:
    assert grid(0.4) == [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4]
    rows = [["a"], ["b"], ["C"], ["c "], ["c"], ["d"], ["e"]]
    assert changed(rows) == [1, 1, 0, 1, 1]


def test_es_coefficients() -> None:
    same = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    assert float(distances(same, same, 32, 0).abs().max()) == 0.0
    assert bool((distances(same, same + 3.0, 32, 0) > 1.0).all())
    shifts = torch.tensor([[[1.0, 3.0], [0.0, 0.0]], [[0.0, 0.0], [3.0, 4.0]]])
    found = block_coefficients(shifts, 1.0, 0.5)
    torch.testing.assert_close(found.sum(0), torch.ones(2))
    # The first expert adds more in the second block, the second in the first.
    assert float(found[0, 1]) > 0.9
    assert float(found[1, 0]) > 0.9
    # Experts in another order, kinds with them.
    turned = block_coefficients(shifts.flip(0).flip(1), 1.0, 0.5)
    torch.testing.assert_close(turned.flip(0), found)


def far_from_half(candidate: Mapping[str, object], model: torch.nn.Module) -> float:
    """A fitness of the user's own: it wants weights of a half, and gets the merged model."""
    assert sum(p.numel() for p in model.parameters()) > 1000
    weights = candidate["weights"]
    assert isinstance(weights, dict)
    return sum((row[0] - 0.5) ** 2 for row in weights.values())


def test_a_function_of_ones_own_needs_no_data(models: Path, tmp_path: Path) -> None:
    given = {"evaluations": 30, "fitness": "test_searching_methods:far_from_half"}
    recipe = read_merge_recipe(write(models, "cma_es", given, data=False))
    found = searched(recipe, tmp_path, lambda _line: None)
    assert [m.weight for m in found.models] == pytest.approx([0.5, 0.5], abs=0.1)
