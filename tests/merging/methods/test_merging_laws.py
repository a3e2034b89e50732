"""Laws that every method of the registry obeys; whoever does not is named here with the reason."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
import torch
from golden_model import group_like
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_statistics import measured, tiles_of

from omnicompose.merging.method import (
    LowRank,
    MergeContext,
    ParameterValue,
    TensorGroup,
)
from omnicompose.merging.registry import METHODS, check_parameters
from omnicompose.merging.statistics import TiledSum
from omnicompose.merging.whole_tensor import merge_whole, observed
from omnicompose.plan.treatment import uses_factors

WHOLE: Mapping[str, Mapping[str, ParameterValue]] = {
    "ties": {"density": 1.0},
    "dare_linear": {"density": 1.0},
    "dare_ties": {"density": 1.0},
    "della": {"density": 1.0},
    "della_linear": {"density": 1.0},
    "breadcrumbs": {"density": 1.0, "gamma": 0.0},
    "breadcrumbs_ties": {"density": 1.0, "gamma": 0.0},
    "ram": {"epsilon": 0.0},
    "ramplus": {"epsilon": 0.0},
    "swudi": {"start": "mean"},
    "aswudi": {"start": "mean"},
    "lines": {"alpha": 1.0, "beta": 0.0},
    "ssam": {"rank": 99, "combine": "mean"},
    "shift_weighted": {"base_share": 0.0},
    "nearswap": {"t": 100.0},
}
"""Parameters under which nothing is thrown away."""

SUMS = {"task_arithmetic", "dare_linear", "della_linear", "breadcrumbs", "lines", "tall"}
SUMS |= {"consensus"}
"""Methods that add deltas up: weights of 1 / T make them averages."""

FLAT = "replaces the spectrum by its mean"
ONE_EXPERT = {
    "iso_c": FLAT,
    "iso_cts": FLAT,
    "arcee_fusion": "takes over the important entries only",
}
EQUAL_EXPERTS = {
    **ONE_EXPERT,
    "tsv": "keeps a share of each expert's singular triplets",
    "r_tsvm_like": "keeps a share of each expert's singular triplets",
    "widen": "weights need not add up to 1",
}
ORDER = {
    "slerp": "t runs from the first expert to the second",
    "layer_swap": "the first expert is the outer one",
    "frank": "the first expert is the one that sees",
}
ABSOLUTE = "has a threshold in units of the weights, as published"
SCALE = {
    "widen": "ranks changes of magnitude and direction of the weights",
    "nearswap": ABSOLUTE,
    "ram": ABSOLUTE,
    "ramplus": ABSOLUTE,
    "arcee_fusion": "softmax of the weights' rows",
    "shift_weighted": "its temperature has units (relative: true has none)",
}
NAMES = sorted(METHODS)
SPHERICAL = ("slerp", "nuslerp", "multislerp", "karcher")
laws = settings(max_examples=12, deadline=None, derandomize=True, database=None)
seeds = st.integers(0, 2**31 - 1)


def some_group(name: str, seed: int, count: int = 3, shape: Sequence[int] = ()) -> TensorGroup:
    """A random group that fits the method's arity; 1-D or 2-D."""
    generator = torch.Generator().manual_seed(seed)
    low, high = METHODS[name].spec.arity
    count = max(low, min(count, high or count))
    if not shape:
        rows, columns = torch.randint(2, 9, (2,), generator=generator).tolist()
        shape = (rows, columns) if seed % 4 else (columns,)
    base = torch.randn(*shape, generator=generator)
    experts = [base + 0.1 * torch.randn(*shape, generator=generator) for _ in range(count)]
    group = group_like(base, experts, layer=1, num_layers=4)
    return replace(group, measured=measured(name, base.shape, count, generator))


def merge(
    name: str, group: TensorGroup, parameters: Mapping[str, ParameterValue] | None = None, seed=0
) -> torch.Tensor:
    checked = check_parameters(name, WHOLE.get(name, {}) if parameters is None else parameters)
    return merge_whole(METHODS[name], group, MergeContext(parameters=checked, seed=seed))


def averaged(name: str, group: TensorGroup) -> TensorGroup:
    count = len(group.experts)
    return replace(group, weights=(1.0 / count,) * count) if name in SUMS else group


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ONE_EXPERT])
@laws
@given(seed=seeds)
def test_one_expert_comes_back(name: str, seed: int) -> None:
    if METHODS[name].spec.arity[0] > 1:
        return
    group = some_group(name, seed, count=1)
    assert torch.allclose(merge(name, group), group.experts[0], atol=2e-6)


@pytest.mark.parametrize("name", [n for n in NAMES if n not in EQUAL_EXPERTS])
@laws
@given(seed=seeds)
def test_equal_experts_come_back(name: str, seed: int) -> None:
    group = some_group(name, seed)
    group = replace(group, experts=(group.experts[0],) * len(group.experts))
    merged = merge(name, averaged(name, group))
    assert torch.allclose(merged, group.experts[0], atol=5e-6)


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ORDER])
@laws
@given(seed=seeds)
def test_order_of_experts_is_irrelevant(name: str, seed: int) -> None:
    group = some_group(name, seed)
    weights = tuple(0.5 + 0.25 * i for i in range(len(group.experts)))
    group = replace(group, weights=weights) if METHODS[name].spec.weighted else group
    turned = replace(
        group,
        experts=group.experts[::-1],
        expert_names=group.expert_names[::-1],
        weights=group.weights[::-1],
        measured=group.measured[::-1],
    )
    assert torch.allclose(merge(name, group, {}), merge(name, turned, {}), atol=5e-6)


@pytest.mark.parametrize("name", [n for n in NAMES if n not in SCALE])
@laws
@given(seed=seeds, power=st.integers(-20, 6))
def test_scaled_deltas_give_a_scaled_delta(name: str, seed: int, power: int) -> None:
    factor = 2.0**power
    group = some_group(name, seed)
    moved = [expert - group.base for expert in group.experts]
    at_zero = replace(group, base=torch.zeros_like(group.base), experts=tuple(moved))
    scaled = replace(at_zero, experts=tuple(factor * delta for delta in moved))
    parameters = {"space": "deltas"} if name in SPHERICAL else {}
    once, twice = merge(name, at_zero, parameters), merge(name, scaled, parameters)
    assert torch.allclose(twice / factor, once, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@laws
@given(seed=seeds)
def test_experts_equal_to_the_base_change_nothing(name: str, seed: int) -> None:
    group = some_group(name, seed)
    still = replace(group, experts=tuple(group.base.clone() for _ in group.experts))
    merged = merge(name, still, {})
    if METHODS[name].spec.needs_base:
        assert torch.equal(merged, group.base)
    assert torch.allclose(merged, group.base, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
@laws
@given(seed=seeds)
def test_result_is_finite_and_inputs_are_left_alone(name: str, seed: int) -> None:
    group = some_group(name, seed)
    # One expert that did not move this tensor must not poison it.
    group = replace(group, experts=(group.base.clone(), *group.experts[1:]))
    before = [tensor.clone() for tensor in (group.base, *group.experts)]
    merged = merge(name, group, {})
    assert merged.dtype == torch.float32
    assert merged.shape == group.base.shape
    assert bool(torch.isfinite(merged).all())
    after = (group.base, *group.experts)
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))


def merge_by_tiles(name: str, group: TensorGroup, context: MergeContext, size: int):
    method, tiles = METHODS[name], tiles_of(group, size)
    passes = method.survey(context.parameters).num_passes if method.spec.num_passes > 1 else 0
    for observe_pass in range(passes):
        total = TiledSum()
        for tile in tiles:
            total.add(method.observe(tile, context, observe_pass))
        context = replace(context, statistics={**context.statistics, **total.result()})
    merged = torch.cat([method.merge(tile, context) for tile in tiles])
    return merged.view(group.base.shape), context


@pytest.mark.parametrize("name", [n for n in NAMES if METHODS[n].spec.granularity == "element"])
@laws
@given(seed=seeds, size=st.integers(1, 40), profile=st.integers(0, 5))
def test_tiles_give_what_the_whole_tensor_gives(
    name: str, seed: int, size: int, profile: int
) -> None:
    group = some_group(name, seed)
    profiles = [None, *METHODS[name].spec.profiles]
    parameters = check_parameters(name, {}, profiles[profile % len(profiles)])
    context = MergeContext(parameters=parameters, seed=seed)
    whole = merge_whole(METHODS[name], group, context)
    tiled, found = merge_by_tiles(name, group, context, size)
    assert torch.allclose(tiled, whole, atol=1e-6)
    # Histograms are counts: their sums are exact, and so are the thresholds.
    expected = observed(METHODS[name], group, context).statistics
    for key, value in found.statistics.items():
        if not value.is_floating_point():
            assert torch.equal(value, expected[key])


@pytest.mark.parametrize("name", [n for n in NAMES if METHODS[n].spec.stochastic])
@laws
@given(seed=seeds, size=st.integers(1, 40))
def test_random_methods_draw_by_key(name: str, seed: int, size: int) -> None:
    group = some_group(name, seed, shape=(6, 8))
    given_parameters = {"inner": "dare_ties", "density": 0.5} if name == "knots" else {}
    parameters = check_parameters(name, given_parameters)
    context = MergeContext(parameters=parameters, seed=seed)
    first = merge_whole(METHODS[name], group, context)
    assert torch.equal(first, merge_whole(METHODS[name], group, context))
    other = merge_whole(METHODS[name], group, replace(context, seed=seed + 1))
    assert not torch.equal(first, other)
    if METHODS[name].spec.granularity == "element":
        assert torch.equal(merge_by_tiles(name, group, context, size)[0], first)


def lora_group(seed: int, gauge: bool = False) -> TensorGroup:
    """Three rank-2 adapters on a 12 x 10 base, dense and as factors."""
    generator = torch.Generator().manual_seed(seed)
    base = torch.randn(12, 10, generator=generator)
    factors = []
    for i in range(3):
        left = torch.randn(12, 2, generator=generator)
        right = torch.randn(2, 10, generator=generator)
        turn = torch.tensor([[1.0, 2.0], [0.5, -1.0]]) if gauge else torch.eye(2)
        scale = 0.1 * (i + 1)
        factors.append(LowRank(A=torch.linalg.inv(turn) @ right, B=left @ turn, scale=scale))
    experts = tuple(base + f.scale * (f.B @ f.A) for f in factors)
    group = group_like(base, experts, (1.0, 0.5, 2.0))
    return replace(group, factors=tuple(factors))


FACTORED: list[tuple[str, Mapping[str, ParameterValue]]] = [
    *((n, {}) for n in NAMES if METHODS[n].spec.factored_ok),
    ("knots", {"inner": "mean"}),
    ("knots", {"inner": "sum", "scale": 0.5}),
    ("wudi", {"start": "mean"}),
    ("optmerge", {"center": True}),
    ("optmerge", {"proxy": "full", "rank_divisor": 5, "learning_rate": 0.05}),
    ("swudi", {"start": "mean"}),
    ("ssam", {"rank": 3, "combine": "mean"}),
]


@pytest.mark.parametrize(("name", "given_parameters"), FACTORED)
@settings(max_examples=5, deadline=None, derandomize=True, database=None)
@given(seed=seeds)
def test_factors_give_what_dense_deltas_give(
    name: str, given_parameters: Mapping[str, ParameterValue], seed: int
) -> None:
    assert uses_factors(METHODS[name].spec, check_parameters(name, given_parameters))
    group = lora_group(seed)
    merged = merge(name, group, given_parameters)
    dense = merge(name, replace(group, factors=()), given_parameters)
    assert torch.allclose(merged, dense, atol=2e-4)
    # Factors alone decide: the dense experts are not looked at.
    unread = replace(group, experts=tuple(torch.empty(12, 10).fill_(1e9) for _ in group.experts))
    assert torch.equal(merge(name, unread, given_parameters), merged)
    turned = merge(name, lora_group(seed, gauge=True), given_parameters)
    assert torch.allclose(turned, merged, atol=2e-4)


DENSE: list[tuple[str, Mapping[str, ParameterValue]]] = [
    # Adam depends on the basis; a kept null space is rounding noise of the dense matrices.
    ("wudi", {"solver": "adam"}),
    ("optmerge", {"optimizer": "adam"}),
    ("tsv", {"null_space": "keep"}),
    ("iso_c", {"null_space": "keep"}),
    ("iso_cts", {"null_space": "keep"}),
]


@pytest.mark.parametrize(("name", "given_parameters"), DENSE)
def test_what_factors_cannot_give_is_computed_from_dense_deltas(
    name: str, given_parameters: Mapping[str, ParameterValue]
) -> None:
    assert not uses_factors(METHODS[name].spec, check_parameters(name, given_parameters))
