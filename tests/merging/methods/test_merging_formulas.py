"""Closed-form cases, worked out by hand, method by method."""

import math

import pytest
import torch
from golden_model import group_like, merge_one

from omnicompose.merging.method import MergeContext
from omnicompose.merging.methods.breadcrumbs import ranks_kept
from omnicompose.merging.methods.lines import depth_factor
from omnicompose.merging.registry import METHODS, check_parameters
from omnicompose.merging.whole_tensor import observed


def test_widen_scores_columns() -> None:
    eye = torch.eye(2)
    base = torch.cat([eye, eye], dim=1)
    first = base * torch.tensor([2.0, 1.5, 1.0, 1.0])
    second = base * torch.tensor([1.0, 1.0, 3.0, 1.1])
    merged = merge_one("widen", group_like(base, [first, second]))
    assert torch.allclose(merged[0], torch.tensor([1.75, 0.0, 3.0, 0.0]), atol=1e-4)
    assert torch.allclose(merged[1], torch.tensor([0.0, 1.375, 0.0, 1.1]), atol=1e-4)


def test_ties_by_hand() -> None:
    group = group_like(
        torch.zeros(4), [torch.tensor([3, -1, 0.2, 2]), torch.tensor([1, 2, -0.1, -2.0])]
    )
    assert merge_one("ties", group, {"density": 0.5}).tolist() == [3, 2, 0, 2]
    paper = merge_one("ties", group, {"density": 0.5, "zero_sign": "majority"})
    assert paper.tolist() == [3, 2, 0, 2]
    # A negative majority decides the entry whose deltas cancel.
    flipped = group_like(torch.zeros(4), [-e for e in group.experts])
    paper = merge_one("ties", flipped, {"density": 0.5, "zero_sign": "majority"})
    assert paper.tolist() == [-3, -2, 0, -2]


def test_breadcrumbs_keeps_the_middle() -> None:
    group = group_like(torch.zeros(10), [torch.arange(1.0, 11.0)])
    merged = merge_one("breadcrumbs", group, {"density": 0.8, "gamma": 0.1})
    assert merged.tolist() == [0, 2, 3, 4, 5, 6, 7, 8, 9, 0]
    top = merge_one("breadcrumbs", group, {"density": 0.3, "gamma": 0.0})
    assert top.tolist() == [0] * 7 + [8, 9, 10]
    assert ranks_kept(0.9, 0.02, 1200, "mask_rate") == (24, 1105)


def test_slerp_and_karcher_on_axes() -> None:
    x, y, z = torch.eye(3)
    assert torch.allclose(
        merge_one("slerp", group_like(None, [2 * x, y])), torch.tensor([2**0.5, 0.5**0.5, 0])
    )
    third = torch.full((3,), 3**-0.5)
    assert torch.allclose(merge_one("karcher", group_like(None, [x, y, z])), third)
    assert torch.equal(merge_one("slerp", group_like(None, [x, y]), {"t": 0.0}), x)
    assert torch.allclose(merge_one("slerp", group_like(None, [x, y]), {"t": 1.0}), y)


@pytest.mark.parametrize(("count", "cosine", "t"), [(2, 0, 0), (2, 0.5, 2 / 3), (3, 0.5, 0.75)])
def test_model_stock_interpolation(count: int, cosine: float, t: float) -> None:
    gram = torch.full((count, count), cosine) + (1 - cosine) * torch.eye(count)
    vectors = torch.linalg.cholesky(gram)
    merged = merge_one("model_stock", group_like(torch.zeros(count), list(vectors)))
    assert torch.allclose(merged, t * vectors.mean(0), atol=1e-6)


def test_sce_weights_and_selection() -> None:
    group = group_like(
        torch.zeros(4), [torch.tensor([4.0, 0, 1, 2]), torch.tensor([2.0, -2, 1, -2])]
    )
    assert merge_one("sce", group).tolist() == pytest.approx([3.2353, -2, 1, 2], rel=1e-4)
    half = merge_one("sce", group, {"select_topk": 0.5, "counting": "floor"})
    assert half.tolist() == [0, 0, 0, 2]


def test_varm_weights_follow_mean_squares() -> None:
    group = group_like(torch.zeros(2), [torch.tensor([1.0, 0]), torch.tensor([0, 2.0])])
    assert merge_one("varm", group).tolist() == pytest.approx([0.2, 1.6])


def test_emr_by_hand() -> None:
    group = group_like(torch.zeros(3), [torch.tensor([1.0, -2, 3]), torch.tensor([2.0, 1, -1])])
    context = MergeContext(parameters=check_parameters("emr", {}))
    context = observed(METHODS["emr"], group, context)
    assert METHODS["emr"].merge(group, context).tolist() == [2, -2, 3]
    first, second = (METHODS["emr"].expert_part(group, context, i) for i in range(2))
    assert first.mask.tolist() == [True, True, True]
    assert second.mask.tolist() == [True, False, False]
    assert (first.scale, second.scale) == (pytest.approx(6 / 7), pytest.approx(2.0))


def test_lines_grows_with_depth() -> None:
    factors = []
    for layer in range(3):
        group = group_like(torch.zeros(2), [torch.ones(2)], layer=layer, num_layers=3)
        factors.append(float(merge_one("lines", group)[0]))
    assert factors == [0.0, 0.5, 1.0]
    lone = group_like(torch.zeros(2), [torch.ones(2)], layer=0, num_layers=1)
    assert depth_factor(lone, MergeContext(parameters=check_parameters("lines", {}))) == 0.0


def test_lines_alpha_from_norms_is_one_for_a_mean() -> None:
    same = group_like(torch.zeros(2), [torch.ones(2)] * 2, (0.5, 0.5), layer=0, num_layers=2)
    parameters = {"alpha_from": "norms", "beta": 0.0}
    assert merge_one("lines", same, parameters).tolist() == [1.0, 1.0]


def test_layer_swap_places_every_block() -> None:
    parameters = {"bottom": 2, "top": 1, "bottom_transition": 1, "top_transition": 1}
    found = []
    for layer in range(8):
        group = group_like(None, [torch.zeros(1), torch.ones(1)], layer=layer, num_layers=8)
        found.append(float(merge_one("layer_swap", group, parameters)))
    assert found == [0, 0, 0.5, 1, 1, 1, 0.5, 0]
    for role, source, value in (("embedding", "embeddings", 1.0), ("head", "head", 1.0)):
        group = group_like(None, [torch.zeros(1), torch.ones(1)], role=role, num_layers=8)
        assert float(merge_one("layer_swap", group, {source: "second"})) == value
        assert float(merge_one("layer_swap", group)) == 0.0


def test_ssam_by_hand() -> None:
    deltas = [torch.diag(torch.tensor([3.0, 1, 0])), torch.diag(torch.tensor([2.0, 0, 0.5]))]
    for rank, diagonal in ((1, [5, 0, 0]), (2, [5, 1, 0]), (3, [5, 1, 0.5])):
        merged = merge_one("ssam", group_like(torch.zeros(3, 3), deltas), {"rank": rank})
        assert torch.allclose(merged, torch.diag(torch.tensor(diagonal).float()), atol=1e-6)


def test_shift_weighted_by_hand() -> None:
    group = group_like(torch.zeros(2), [torch.full((2,), 1e-3), torch.full((2,), 2e-3)])
    merged = merge_one("shift_weighted", group)
    assert float(merged[0]) == pytest.approx(0.13447e-3 + 0.36553 * 2e-3, rel=1e-4)
    alone = group_like(torch.zeros(2), [torch.ones(2)])
    assert merge_one("shift_weighted", alone).tolist() == [0.5, 0.5]
    relative = merge_one("shift_weighted", group, {"relative": True, "temperature": 1.0})
    weight = 0.5 / (1 + math.exp(-2 / 3))
    assert float(relative[0]) == pytest.approx((0.5 - weight) * 1e-3 + weight * 2e-3, rel=1e-5)


def test_tsv_and_iso_by_hand() -> None:
    diagonal = torch.diag(torch.tensor([3.0, 1.0]))
    flat = merge_one("iso_c", group_like(torch.zeros(2, 2), [diagonal]))
    assert torch.allclose(flat, 2 * torch.eye(2), atol=1e-6)
    blocks = [torch.zeros(4, 4), torch.zeros(4, 4)]
    blocks[0][:2, :2] = torch.tensor([[1.0, 2], [3, 4]])
    blocks[1][2:, 2:] = torch.tensor([[2.0, 0], [1, 1]])
    merged = merge_one("tsv", group_like(torch.zeros(4, 4), blocks))
    assert torch.allclose(merged, blocks[0] + blocks[1], atol=1e-6)
    group = group_like(torch.zeros(3, 4), [torch.randn(3, 4) for _ in range(2)])
    common = merge_one("iso_cts", group, {"common_fraction": 1.0})
    assert torch.allclose(common, merge_one("iso_c", group), atol=1e-6)


def test_wudi_by_hand() -> None:
    one = group_like(torch.zeros(1, 1), [torch.tensor([[2.0]]), torch.tensor([[4.0]])])
    assert float(merge_one("wudi", one)) == pytest.approx(3.0)
    left, right = torch.zeros(3, 4), torch.zeros(3, 4)
    left[:, :2], right[:, 2:] = torch.randn(3, 2), torch.randn(3, 2)
    for start in ("sum", "mean", "zero"):
        group = group_like(torch.zeros(3, 4), [left, right])
        merged = merge_one("wudi", group, {"start": start})
        assert torch.allclose(merged, left + right, atol=1e-6)


def test_consensus_needs_agreement() -> None:
    group = group_like(
        torch.zeros(3), [torch.tensor([1.0, 1.0, 0.0]), torch.tensor([1.0, 0.0, -1.0])]
    )
    assert merge_one("consensus", group).tolist() == [2.0, 0.0, 0.0]
    assert merge_one("consensus", group, {"min_experts": 1}).tolist() == [2.0, 1.0, -1.0]


def test_ram_by_hand() -> None:
    group = group_like(
        torch.zeros(3), [torch.tensor([1.0, 2.0, 0.0]), torch.tensor([0.0, 4.0, 5.0])]
    )
    assert merge_one("ram", group).tolist() == [1.0, 3.0, 5.0]
    plus = merge_one("ramplus", group, {"r": 0.5, "alpha": 0.2})
    assert plus.tolist() == pytest.approx([1.1, 3.0, 5.5])


def test_elementwise_methods_by_hand() -> None:
    base, expert = torch.tensor([1.0, 1.0]), torch.tensor([1.1, 3.0])
    near = merge_one("nearswap", group_like(base, [expert]), {"t": 0.5})
    assert near.tolist() == pytest.approx([1.1, 1.5])
    largest = group_like(torch.zeros(2), [torch.tensor([1.0, -3]), torch.tensor([-2.0, 3])])
    assert merge_one("magmax", largest).tolist() == [-2.0, 3.0]
    copied = merge_one("passthrough", group_like(None, [expert]))
    assert torch.equal(copied, expert)
