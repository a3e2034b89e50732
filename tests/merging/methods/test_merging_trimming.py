"""Thresholds found from a sample and one pass, and what happens where that cannot work."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from omnicompose.errors import MergeError
from omnicompose.merging.engine import run_merge
from omnicompose.merging.evaluation import Evaluator
from omnicompose.merging.job import Merge, TensorRef
from omnicompose.merging.passes import SAMPLE_TILE_ELEMENTS, SAMPLE_TILES
from omnicompose.merging.registry import METHODS, check_parameters
from omnicompose.merging.statistics import TiledSum
from omnicompose.merging.workspace import Workspace
from omnicompose.tensors.checkpoint import open_safetensors
from omnicompose.tensors.source import TensorInfo

SIZE = 3 * SAMPLE_TILES * SAMPLE_TILE_ELEMENTS + 7


def smooth() -> torch.Tensor:
    return torch.randn(SIZE, generator=torch.Generator().manual_seed(1))


def unlike_its_sample() -> torch.Tensor:
    # Large where a sample looks, small elsewhere.
    delta = 0.001 * smooth()
    for tile in range(SAMPLE_TILES):
        start = tile * (SIZE // SAMPLE_TILES)
        delta[start : start + SAMPLE_TILE_ELEMENTS] *= 10_000
    return delta


def of_few_values() -> torch.Tensor:
    return (smooth() * 2).round()


def mostly_zero() -> torch.Tensor:
    return smooth() * (smooth() > 1.0)


DELTAS = {f.__name__: f for f in (smooth, unlike_its_sample, of_few_values, mostly_zero)}
PASSES = {"smooth": [0, 1], "unlike_its_sample": [0, 1, 2, 3]}


def job(folder, delta: torch.Tensor, name: str, **parameters: object) -> Merge:
    save_file({"w": torch.zeros(SIZE)}, folder / "base.safetensors")
    save_file({"w": delta}, folder / "expert.safetensors")
    base, expert = (open_safetensors(folder / f"{n}.safetensors") for n in ("base", "expert"))
    return Merge(
        output=TensorInfo(name="w", dtype=torch.float32, shape=(SIZE,)),
        method=METHODS[name],
        parameters=check_parameters(name, parameters),
        base=TensorRef(source=base, name="w"),
        experts=(TensorRef(source=expert, name="w"),),
        expert_names=("expert",),
        weights=(1.0,),
    )


@pytest.mark.parametrize("density", [0.5, 0.2, 0.001, 0.9])
@pytest.mark.parametrize("kind", DELTAS)
def test_what_a_sort_would_keep_is_kept(tmp_path, kind, density):
    delta = DELTAS[kind]()
    run_merge([job(tmp_path, delta, "ties", density=density)], tmp_path / "out")
    least = delta.abs().sort(descending=True).values[round(density * SIZE) - 1]
    expected = delta * (delta.abs() >= least)
    found = load_file(tmp_path / "out" / "model.safetensors")["w"]
    assert torch.equal(found, expected)


@pytest.mark.parametrize("kind", DELTAS)
def test_breadcrumbs_finds_both_ends(tmp_path, kind):
    delta = DELTAS[kind]()
    merge = job(tmp_path, delta, "breadcrumbs", density=0.3, gamma=0.1)
    run_merge([merge], tmp_path / "out")
    ranked = delta.abs().sort(descending=True).values
    first, last = int(0.1 * SIZE), int(0.1 * SIZE) + round(0.3 * SIZE) - 1
    expected = delta * (delta.abs() >= ranked[last]) * (delta.abs() <= ranked[first])
    assert torch.equal(load_file(tmp_path / "out" / "model.safetensors")["w"], expected)


@pytest.mark.parametrize("kind", PASSES)
def test_the_counting_passes_are_spared_where_the_sample_tells(tmp_path, kind, monkeypatch):
    merge, seen = job(tmp_path, DELTAS[kind](), "ties", density=0.5), []
    observe = type(merge.method).observe

    def watched(self, group, context, observe_pass):
        seen.append(observe_pass)
        return observe(self, group, context, observe_pass)

    monkeypatch.setattr(type(merge.method), "observe", watched)
    evaluator = Evaluator(
        Workspace(torch.device("cpu")), 1 << 18, allow_nonfinite=False, device=torch.device("cpu")
    )
    evaluator.begin(merge, {})
    assert sorted(set(seen)) == PASSES[kind]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["ties", "linear", "task_arithmetic"])
def test_a_method_that_carries_bad_numbers_names_the_file_they_are_in(tmp_path, name, bad):
    delta = smooth()
    delta[SIZE // 2 + 1] = bad
    merge = job(tmp_path, delta, name)
    with pytest.raises(MergeError, match=rf"expert.safetensors: .*'w'.*index \[{SIZE // 2 + 1}\]"):
        run_merge([merge], tmp_path / "out")


def test_what_outgrows_its_limit_is_emptied_for_good():
    total = TiledSum(most_collected=3)
    for _ in range(3):
        total.add({"each.a": torch.ones(2), "sum": torch.ones(())})
    assert total.result()["each.a"].numel() <= 2
    assert total.result()["sum"] == 3
