"""Methods that get statistics beside weights: toy cases, recorded outputs and laws."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from golden_model import (
    group_like,
    group_of,
    manifest,
    merge_model,
    model,
    observe_model,
    recorded,
)

from omnicompose.errors import MergeError
from omnicompose.merging.method import Measured, MergeContext, ParameterValue, TensorGroup
from omnicompose.merging.methods.frank import vision_weight
from omnicompose.merging.methods.linear_system import System, exact_filter, minimise, solve
from omnicompose.merging.registry import METHODS, check_parameters
from omnicompose.merging.whole_tensor import merge_whole

EXPERTS = ("e1", "e2", "e3")


def tensor(*rows: object) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float32)


def merge(
    name: str, group: TensorGroup, parameters: Mapping[str, ParameterValue] | None = None
) -> torch.Tensor:
    context = MergeContext(parameters=check_parameters(name, parameters or {}))
    return merge_whole(METHODS[name], group, context)


def with_sums(group: TensorGroup, *totals: torch.Tensor | None, count: float = 1.0) -> TensorGroup:
    measured = (None if one is None else Measured(total=one, count=count) for one in totals)
    return replace(group, measured=tuple(measured))


def golden_groups(golden: str, kind: str) -> list[TensorGroup]:
    record, names = recorded(golden), list(model("base", "fp32"))

    def sums(name: str, expert: str) -> Measured | None:
        own = name if kind == "fisher" else name.removesuffix(".weight")
        found = record.get(f"aux::input.{kind}.{expert}.{own}")
        return None if found is None else Measured(total=found, count=1.0)

    experts = [model(expert, "fp32") for expert in EXPERTS]
    groups = [group_of(name, model("base", "fp32"), experts, EXPERTS, (1.0,) * 3) for name in names]
    return [
        replace(group, measured=tuple(sums(group.name, expert) for expert in EXPERTS))
        for group in groups
    ]


@pytest.mark.parametrize(
    ("golden", "kind", "parameters"),
    [
        ("fusion_bench/regmean__ratio0.9", "gram", {"off_diagonal": 0.9}),
        ("fusion_bench/regmean__ratio1.0", "gram", {"off_diagonal": 1.0}),
        ("fusion_bench/fisher__raw", "fisher", {"normalize": False, "floor": 1e-6}),
        ("fusion_bench/fisher__normalized", "fisher", {"normalize": True, "floor": 1e-6}),
    ],
)
def test_recorded_outputs_are_met(
    golden: str, kind: str, parameters: Mapping[str, ParameterValue]
) -> None:
    method = METHODS["regmean" if kind == "gram" else "fisher"]
    context = MergeContext(parameters=check_parameters(method.spec.name, parameters))
    merged = merge_model(method, golden_groups(golden, kind), context)
    tolerance = manifest()[golden]["tolerance"]
    for name, found in merged.items():
        torch.testing.assert_close(found, recorded(golden)[name], **tolerance)


def test_fisher_toy_cases() -> None:
    group = group_like(None, (tensor(0.0, 0.0), tensor(4.0, 4.0)))
    raw = {"normalize": False}
    assert merge("fisher", with_sums(group, tensor(1, 3), tensor(3, 1)), raw).tolist() == [3, 1]
    assert merge("fisher", with_sums(group, tensor(2, 5), tensor(2, 5)), raw).tolist() == [2, 2]
    nothing = with_sums(group, tensor(0, 0), tensor(3, 1))
    assert merge("fisher", nothing).tolist() == [4, 4]
    # The mean where nobody is sensitive, and where nothing was measured.
    assert merge("fisher", with_sums(group, tensor(0, 1), tensor(0, 1))).tolist() == [2, 2]
    assert merge("fisher", group).tolist() == [2, 2]


def test_fisher_counts_examples_not_their_number() -> None:
    group = group_like(None, (tensor(0.0), tensor(4.0)))
    few, many = Measured(total=tensor(2), count=2), Measured(total=tensor(30), count=10)
    found = merge("fisher", replace(group, measured=(few, many)), {"normalize": False})
    assert found.item() == pytest.approx(3.0)


def test_regmean_toy_case() -> None:
    group = group_like(None, (torch.zeros(1, 2), torch.full((1, 2), 4.0)))
    grams = (torch.diag(tensor(3, 1)), torch.eye(2))
    assert merge("regmean", with_sums(group, *grams))[0].tolist() == pytest.approx([1.0, 2.0])


def random_case(seed: int, rows: int = 30) -> tuple[TensorGroup, list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    base = torch.randn(5, 4, generator=generator)
    experts = [base + torch.randn(5, 4, generator=generator) for _ in range(3)]
    inputs = [torch.randn(rows, 4, generator=generator) * (i + 1) for i in range(3)]
    return group_like(base, experts), inputs


def test_regmean_is_stacked_least_squares() -> None:
    group, inputs = random_case(0)
    grams = [x.T @ x for x in inputs]
    found = merge("regmean", with_sums(group, *grams, count=30), {"off_diagonal": 1.0})
    outputs = [x @ w.T for x, w in zip(inputs, group.experts, strict=True)]
    expected = torch.linalg.lstsq(torch.cat(inputs), torch.cat(outputs)).solution.T
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_regmean_without_off_diagonal_is_a_weighted_mean_of_columns() -> None:
    group, inputs = random_case(1)
    grams = [x.T @ x for x in inputs]
    found = merge("regmean", with_sums(group, *grams, count=30), {"off_diagonal": 0.0})
    weights = torch.stack([gram.diagonal() for gram in grams])
    columns = torch.stack(group.experts) * weights[:, None]
    torch.testing.assert_close(found, columns.sum(0) / weights.sum(0), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["regmean", "regmean_plus_plus"])
def test_an_expert_without_data_changes_no_measured_matrix(name: str) -> None:
    group, inputs = random_case(2)
    grams = [x.T @ x for x in inputs[:2]]
    two = replace(
        group, experts=group.experts[:2], expert_names=group.expert_names[:2], weights=(1.0, 1.0)
    )
    expected = merge(name, with_sums(two, *grams, count=30))
    for nothing in (None, Measured(total=torch.zeros(4, 4), count=0)):
        both = with_sums(two, *grams, count=30).measured
        found = merge(name, replace(group, measured=(*both, nothing)))
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_inputs_that_nobody_has_keep_the_mean() -> None:
    group = group_like(None, (tensor([1.0, 2.0]), tensor([3.0, 6.0])))
    gram = torch.diag(tensor(1.0, 0.0))
    assert merge("regmean", with_sums(group, gram, 0 * gram))[0].tolist() == [1.0, 4.0]


def test_a_gram_of_another_layer_is_refused() -> None:
    group, _ = random_case(3)
    with pytest.raises(MergeError, match=r"Gram of shape \[3, 3\], expected \[4, 4\]"):
        merge("regmean", with_sums(group, *(torch.eye(3),) * 3))


@pytest.mark.parametrize("rank", [2, 6])
def test_both_solvers_agree(rank: int) -> None:
    generator = torch.Generator().manual_seed(4)
    rows = torch.randn(rank, 4, generator=generator, dtype=torch.float64)
    gram = rows.T @ rows
    target = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    start = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    parts = System(gram, target @ gram)
    torch.testing.assert_close(minimise(parts, start), solve(parts, start, exact_filter))


def frank_group(first: float, second: float, layer: int | None = 0) -> TensorGroup:
    base = torch.zeros(1)
    group = group_like(base, (tensor(first), tensor(second)), layer=0, num_layers=5)
    return replace(group, layer=layer)


def test_frank_toy_cases() -> None:
    none = {"prior": "none"}
    # Squared norms 4 and 1: .8 * 2 + .2 * 1.
    assert merge("frank", frank_group(2.0, 1.0), none).item() == pytest.approx(1.8)
    assert merge("frank", frank_group(2.0, 0.0), none).item() == pytest.approx(2.0)


def test_frank_prior_of_a_known_decay() -> None:
    expected = [0.2419, 0.2188, 0.1980, 0.1792, 0.1621]
    for given in ({"prior": "decay", "decay": 0.1}, {"prior": "attention"}):
        context = MergeContext(parameters=check_parameters("frank", given))
        share = 0.6 * torch.exp(-0.1 * torch.arange(5.0))
        total = torch.stack([share, 1 - share], dim=1) * 7
        for layer, weight in enumerate(expected):
            group = with_sums(frank_group(1.0, 1.0, layer), total, None, count=7)
            assert vision_weight(group, context) == pytest.approx(weight, abs=5e-5)


def test_frank_raw_prior_is_the_share_itself() -> None:
    parameters = check_parameters("frank", {"normalise": "raw"})
    share = 0.6 * torch.exp(-0.1 * torch.arange(5.0))
    total = torch.stack([share, 1 - share], dim=1)
    group = with_sums(frank_group(1.0, 1.0, 3), total, None)
    assert vision_weight(group, MergeContext(parameters=parameters)) == pytest.approx(
        float(share[3]), rel=1e-5
    )


def test_frank_adds_norms_up_over_a_block() -> None:
    groups = [replace(frank_group(2.0, 1.0), name="a"), replace(frank_group(0.0, 2.0), name="b")]
    context = MergeContext(parameters=check_parameters("frank", {"prior": "none"}))
    context = observe_model(METHODS["frank"], groups, context)
    assert context.statistics["0"].tolist() == [4.0, 5.0]
    found = METHODS["frank"].merge(groups[0], context)
    assert found.item() == pytest.approx(2.0 * 4 / 9 + 1.0 * 5 / 9)


@pytest.mark.parametrize(
    ("total", "message"),
    [(None, "found no attention"), (torch.ones(3, 2), "found no attention")],
)
def test_frank_says_what_is_missing(total: torch.Tensor | None, message: str) -> None:
    with pytest.raises(MergeError, match=message):
        merge("frank", with_sums(frank_group(1.0, 1.0), total, None))


def test_frank_wants_prompts_with_media() -> None:
    total = torch.tensor([[0.0, 1.0]] * 5)
    with pytest.raises(MergeError, match="no attention to media"):
        merge("frank", with_sums(frank_group(1.0, 1.0), total, None))
