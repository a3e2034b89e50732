"""What the methods are made of: thresholds by counting, keyed random numbers, the registry."""

import json

import numpy as np
import pytest
import torch
from golden_model import group_like, merge_one
from hypothesis import given, settings
from hypothesis import strategies as st

from omnicompose.errors import MergeError, RecipeError
from omnicompose.merging.methods import selection
from omnicompose.merging.methods.random_bits import BLOCK, philox_key, uniform_numbers
from omnicompose.merging.methods.trimming import keep_from, keep_up_to, num_kept
from omnicompose.merging.registry import METHODS, check_parameters, method_named

exact = settings(max_examples=30, deadline=None, derandomize=True, database=None)
numbers = st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=60)


def threshold(values: torch.Tensor, rank: int, cut: int) -> float:
    """By counting two halves apart and adding the counts up."""
    halves = [values[:cut], values[cut:]]
    upper = sum(selection.TensorMagnitudes(half).count_prefixes() for half in halves)
    prefix = selection.place_of(upper, rank).bin
    lower = sum(selection.TensorMagnitudes(half).count_suffixes([prefix]) for half in halves)
    return selection.kth_largest(upper, lower[0], rank)


@exact
@given(values=numbers, data=st.data())
def test_counting_finds_the_exact_rank(values: list[float], data: st.DataObject) -> None:
    tensor = torch.tensor(values, dtype=torch.float32)
    rank = data.draw(st.integers(1, len(values)))
    cut = data.draw(st.integers(0, len(values)))
    expected = tensor.abs().sort(descending=True).values[rank - 1]
    assert threshold(tensor, rank, cut) == float(expected)


@exact
@given(values=numbers, data=st.data())
def test_keeping_by_magnitude_is_exact(values: list[float], data: st.DataObject) -> None:
    tensor = torch.tensor(values, dtype=torch.float32)
    limit = abs(data.draw(st.sampled_from(tensor.tolist())))
    assert torch.equal(keep_from(tensor, limit), tensor * (tensor.abs() >= limit))
    finite = tensor[tensor.isfinite()]
    assert torch.equal(keep_up_to(finite, limit), finite * (finite.abs() <= limit))


def test_counting_rules() -> None:
    counts = {rule: num_kept(0.2, 48, rule) for rule in ("round", "floor", "paper_code")}
    assert counts == {"round": 10, "floor": 9, "paper_code": 10}
    assert num_kept(0.2, 48, "mask_rate") == 11
    assert num_kept(0.001, 5, "floor") == 1
    assert num_kept(1.0, 5, "paper_code") == 5


def test_uniform_numbers_are_the_same_from_any_tile() -> None:
    key = philox_key(7, "audio", "model.layers.0.mlp.up_proj.weight")
    whole = uniform_numbers(key, 0, 2 * BLOCK + 100)
    for offset, count in ((0, 10), (BLOCK - 3, 6), (BLOCK, BLOCK), (2 * BLOCK + 1, 99)):
        assert np.array_equal(uniform_numbers(key, offset, count), whole[offset : offset + count])
    assert whole.min() >= 0.0 and whole.max() < 1.0
    assert abs(whole.mean() - 0.5) < 5 / (12 * whole.size) ** 0.5
    assert abs(np.corrcoef(whole[:BLOCK], whole[BLOCK : 2 * BLOCK])[0, 1]) < 0.02


FIRST = [0.5077593, 0.9252014, 0.1815611]


def test_keys_tell_seed_expert_and_tensor_apart() -> None:
    keys = {
        philox_key(0, "ab", "c"),
        philox_key(0, "a", "bc"),
        philox_key(1, "ab", "c"),
        philox_key(0, "c", "ab"),
    }
    assert len(keys) == 4
    # Fixed for good: a change of the key changes every user's DARE merge.
    assert uniform_numbers(philox_key(0, "audio", "w"), 0, 3).tolist() == pytest.approx(FIRST)


def test_drawing_does_not_depend_on_other_experts() -> None:
    delta, base = torch.ones(64), torch.zeros(64)
    alone = merge_one("dare_linear", group_like(base, [delta], expert_names=("audio",)))
    both = group_like(base, [torch.zeros(64), delta], expert_names=("image", "audio"))
    assert torch.equal(alone, merge_one("dare_linear", both))


def test_registry_names_and_specs_fit() -> None:
    assert len(METHODS) == 45
    for name, method in METHODS.items():
        spec = method.spec
        assert spec.name == name
        assert spec.summary and spec.formula and spec.paper
        assert (spec.num_passes > 1) == hasattr(method, "observe")
        assert spec.output == ("bundle" if hasattr(method, "expert_part") else "tensor")
        for profile in spec.profiles:
            check_parameters(name, spec.profiles[profile], profile)
        check_parameters(name, {p.name: p.default for p in spec.parameters})
        json.dumps([p.default for p in spec.parameters])


def test_survey_never_exceeds_the_declared_passes() -> None:
    for name, method in METHODS.items():
        if method.spec.num_passes == 1:
            continue
        for profile in (None, *method.spec.profiles):
            survey = method.survey(check_parameters(name, {}, profile))
            assert survey.num_passes < method.spec.num_passes


def test_parameters_fill_defaults_profile_and_given() -> None:
    checked = check_parameters("ties", {"scale": 0.7}, "fusion_bench")
    assert (checked["density"], checked["scale"], checked["combine"]) == (0.2, 0.7, "sum")


def test_all_mistakes_in_parameters_are_told_at_once() -> None:
    given_parameters = {
        "densty": 0.3,
        "scope": "all",
        "scale": "big",
        "density": {"audio": 1.5},
        "combine": {"audio": "sum"},
    }
    with pytest.raises(RecipeError) as caught:
        check_parameters("ties", given_parameters, "mrgekit")
    message = str(caught.value)
    assert message.count("\n") == 5
    for part in (
        "found 'mrgekit', expected one of: fusion_bench",
        "unknown parameter 'densty', expected: density, scale",
        "Did you mean density?",
        "'scope': found 'all', expected one of: tensor, model",
        "'scale': found 'big', expected a number",
        "'density': found 1.5, expected a number of at least 0 of at most 1",
        "'combine': found {'audio': 'sum'}, expected one value for all",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("method", "given_parameters", "expected"),
    [
        ("linear", {"normalize": 1}, "true or false"),
        ("task_arithmetic", {"scale": True}, "a number"),
        ("task_arithmetic", {"scale": float("nan")}, "a number"),
        ("wudi", {"steps": 1.5}, "a whole number of at least 0"),
        ("wudi", {"steps": -1}, "a whole number of at least 0"),
        ("nearswap", {"t": -1.0}, "of at least 0"),
    ],
)
def test_wrong_values_are_refused(method, given_parameters, expected) -> None:
    with pytest.raises(RecipeError, match=expected):
        check_parameters(method, given_parameters)


def test_unknown_method_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match="Did you mean ties"):
        method_named("tise")
    with pytest.raises(RecipeError, match="no parameters at all"):
        check_parameters("arcee_fusion", {"x": 1})


def test_missing_base_and_weights_that_cancel() -> None:
    with pytest.raises(MergeError, match="given no base"):
        merge_one("ties", group_like(None, [torch.ones(2)]))
    with pytest.raises(MergeError, match="add up to 0"):
        merge_one("linear", group_like(None, [torch.ones(2)] * 2, (1.0, -1.0)))


def test_parameter_per_expert_must_name_all() -> None:
    group = group_like(torch.zeros(2), [torch.ones(2)] * 2, expert_names=("image", "audio"))
    with pytest.raises(MergeError, match=r"\['audio'\]"):
        merge_one("ties", group, {"density": {"image": 0.5}})
    merged = merge_one("ties", group, {"density": {"image": 0.5, "audio": 1.0}})
    assert merged.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("name", ["tsv", "iso_c", "iso_cts", "wudi", "optmerge", "swudi", "knots"])
@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.5, 0.5)])
def test_one_dimensional_tensors_get_the_mean_whatever_the_weights_add_up_to(
    name: str, weights: tuple[float, float]
) -> None:
    base, experts = torch.full((5,), 3.5), [torch.full((5,), 1.5), torch.full((5,), 2.5)]
    group = group_like(base, experts, weights=weights)
    assert torch.allclose(merge_one(name, group), torch.full((5,), 2.0))
