"""What a searching recipe cannot have, what a fitness may do wrong, and what a kill leaves."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
import yaml
from searching_recipes import ground_of, write

from omnicompose.errors import PlanError, RecipeError, TuningError
from omnicompose.merger import merge
from omnicompose.merging.registry import check_parameters
from omnicompose.recipe import read_merge_recipe
from omnicompose.searching import adamms
from omnicompose.searching.bench import open_bench
from omnicompose.searching.descent import Descent, descend
from omnicompose.searching.fitness import named
from omnicompose.searching.frank_wolfe import chosen, one_hot
from omnicompose.searching.search import searched
from omnicompose.searching.trail import Trail


def quiet(_line: str) -> None:
    pass


@pytest.mark.parametrize(
    ("fields", "named_so"),
    [
        ({"roles": {"norm": "mean_delta"}}, "roles.norm: mean_delta"),
        ({"overrides": [{"match": "*norm*", "method": "linear"}]}, r"overrides: \*norm\*"),
        ({"then": [{"method": "lines"}]}, "then"),
        ({"vocabulary": "union"}, "vocabulary: union"),
    ],
)
def test_what_the_search_would_not_see_is_refused(
    models: Path, tmp_path: Path, fields: Mapping[str, object], named_so: str
) -> None:
    path = tmp_path / "recipe.yaml"
    recipe = yaml.safe_load(write(models, "adamerging").read_text()) | fields
    path.write_text(yaml.safe_dump(recipe))
    with pytest.raises(RecipeError, match=rf"coefficients of deltas alone; found {named_so}"):
        searched(read_merge_recipe(path), tmp_path / "search", quiet)
    assert not (tmp_path / "search").exists()


@pytest.mark.parametrize(
    ("method", "parameter", "value"),
    [
        ("adamerging", "batch_size", 0),
        ("adamerging", "start", 1.5),
        ("expert_merging", "temperature", 0.0),
        ("fw_merging", "step_scale", -1.0),
        ("adamms", "new_tokens", 0),
        ("es_merging", "temperature", 0.0),
        ("es_merging", "projections", 0),
        ("evo_merging", "density_evaluations", 0),
        ("cma_es", "spread", 0.0),
    ],
)
def test_settings_that_end_in_nothing_are_refused(
    method: str, parameter: str, value: float
) -> None:
    with pytest.raises(RecipeError, match=f"{parameter}.*of at least|{parameter}.*of at most"):
        check_parameters(method, {parameter: value})


def test_a_method_of_two_models_is_refused_before_any_data_is_read(
    models: Path, tmp_path: Path
) -> None:
    path = tmp_path / "recipe.yaml"
    recipe = yaml.safe_load(write(models, "adamms").read_text())
    path.write_text(yaml.safe_dump(recipe | {"models": recipe["models"][:1]}))
    with pytest.raises(PlanError, match="method 'adamms' merges 2 models, found 1"):
        searched(read_merge_recipe(path), tmp_path / "search", quiet)
    assert not (tmp_path / "search").exists()


def test_a_method_without_weights_has_none_to_search(models: Path, tmp_path: Path) -> None:
    recipe = read_merge_recipe(write(models, "cma_es", {"evaluations": 2, "inner": "sce"}))
    with pytest.raises(RecipeError, match="inner: method 'sce' does not weight its models"):
        searched(recipe, tmp_path, quiet)


def test_a_fitness_may_lie_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fitness_of_mine.py").write_text("def f(candidate, model):\n    return 2.5\n")
    (tmp_path / "fitness_unfinished.py").write_text("def f(:\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [path for path in os.sys.path if path != str(tmp_path)])
    assert named("fitness_of_mine:f")({}, None) == 2.5
    with pytest.raises(TuningError, match=r"SyntaxError.*from the current folder too"):
        named("fitness_unfinished:f")


def test_a_kill_while_a_log_is_opened_loses_none_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log.jsonl"
    Trail(log, {}).add((0.5,), 1.0, 0.0)
    before = log.read_bytes()

    def dying(_path: Path, text: str, **_given: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_text", dying)
    with pytest.raises(KeyboardInterrupt):
        Trail(log, {})
    assert log.read_bytes() == before


def test_a_gradient_that_is_no_number_is_said(tmp_path: Path) -> None:
    how = Descent(steps=2, rate=lambda _step: 0.1)

    def slope(_step: int, table: list[torch.Tensor]) -> tuple[float, list[torch.Tensor]]:
        return 1.0, [torch.full_like(one, float("nan")) for one in table]

    with pytest.raises(TuningError, match=r"step 1: found a loss of 1\.0 and its gradient"):
        descend([torch.zeros(1, 1)], slope, how, tmp_path / "s.safetensors", {})


def test_other_weights_are_another_search(models: Path, tmp_path: Path) -> None:
    recipe = read_merge_recipe(write(models, "adamerging"))
    searched(recipe, tmp_path, quiet)
    weights = models / "lora1/adapter_model.safetensors"
    times = weights.stat()
    os.utime(weights, (times.st_atime, times.st_mtime + 1))
    with pytest.raises(TuningError, match="state of another search"):
        searched(recipe, tmp_path, quiet)


def test_answers_that_were_given_are_not_asked_for_again(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = read_merge_recipe(write(models, "adamms"))
    real, asked = adamms.answers, []

    def dying(*given: object) -> list[str]:
        asked.append(given)
        if len(asked) == 4:
            raise KeyboardInterrupt
        return real(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(adamms, "answers", dying)
    with pytest.raises(KeyboardInterrupt):
        searched(recipe, tmp_path, quiet)
    found = searched(recipe, tmp_path, quiet)
    assert len(asked) == 4 + 7 - 3
    monkeypatch.undo()
    whole = searched(recipe, tmp_path / "whole", quiet)
    assert [m.weight for m in found.models] == [m.weight for m in whole.models]


def test_a_tensor_stays_where_no_vertex_is_better(models: Path, tmp_path: Path) -> None:
    ground = ground_of(models, "fw_merging", tmp_path)
    bench, opened = open_bench(ground.recipe, ground.subject, only_matrices=True)
    with opened:
        table = bench.table(0.5)
        slopes = [torch.zeros(2, 1) for _ in bench.moved]
        slopes[0] = torch.tensor([[1.0], [-1.0]])
        places = [table, one_hot(bench, 0), one_hot(bench, 1)]
        found = chosen(slopes, places, per_tensor=True)
    assert torch.equal(found[0], torch.tensor([[0.0], [1.0]]))
    assert all(torch.equal(one, torch.full((2, 1), 0.5)) for one in found[1:])


def test_soft_frank_wolfe_lowers_the_loss_and_goes_on_after_a_kill(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"variant": "soft", "steps": 2, "inner_steps": 3}
    recipe = read_merge_recipe(write(models, "fw_merging", given))
    lines: list[str] = []
    whole = searched(recipe, tmp_path / "whole", lines.append)
    losses = [float(line.split("loss ")[1].split(",")[0]) for line in lines]
    assert losses[1] < losses[0]
    weights = whole.models[0].weight
    assert isinstance(weights, Mapping)
    # After a whole first step the coefficients are those of a mixture: within the hull.
    assert all(-1e-6 <= x <= 1.0 + 1e-6 for x in weights.values())
    state = json.dumps([dict(m.weight) for m in whole.models])  # type: ignore[arg-type]
    from omnicompose.searching import descent

    real = descent._keep

    def dying(path: Path, step: int, *rest: object) -> None:
        real(path, step, *rest)  # type: ignore[arg-type]
        if path.name == "fw_merging-1.safetensors" and step == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(descent, "_keep", dying)
    with pytest.raises(KeyboardInterrupt):
        searched(recipe, tmp_path / "cut", quiet)
    monkeypatch.undo()
    found = searched(recipe, tmp_path / "cut", quiet)
    assert json.dumps([dict(m.weight) for m in found.models]) == state  # type: ignore[arg-type]
    merge(tmp_path / "cut/found.yaml", tmp_path / "out")
