"""Known mistakes of the references (methods.md, section 7) that ours must not have."""

from dataclasses import replace

import pytest
import torch
from golden_model import group_like, merge_one

from omnicompose.errors import MergeError
from omnicompose.merging.method import LowRank
from omnicompose.merging.methods.della import keep_probabilities


def test_breadcrumbs_do_not_zero_small_tensors() -> None:
    """The reference slices with -0 when no outlier is to be dropped."""
    group = group_like(torch.zeros(5), [torch.tensor([1.0, -2, 3, -4, 5])])
    for gamma in (0.0, 0.01):
        merged = merge_one("breadcrumbs", group, {"density": 0.6, "gamma": gamma}, "mergekit")
        assert merged.tolist() == [0, 0, 3, -4, 5]


def test_sce_weights_tiny_deltas_by_their_energy() -> None:
    """The reference falls back to uniform weights below an energy of 1e-6."""
    base = torch.zeros(4)
    small, large = torch.full((4,), 1e-4), torch.full((4,), 5e-4)
    merged = merge_one("sce", group_like(base, [small, large]))
    assert float(merged[0]) == pytest.approx((1 * 1e-4 + 25 * 5e-4) / 26, rel=1e-5)


def test_sce_of_one_expert_is_that_expert() -> None:
    """The variance over one expert is 0, so selecting by it would leave the base."""
    expert = torch.tensor([1.0, -2.0, 3.0])
    merged = merge_one("sce", group_like(torch.zeros(3), [expert]), {"select_topk": 0.3})
    assert torch.equal(merged, expert)


def test_sce_masks_the_deltas_and_not_only_the_weights() -> None:
    group = group_like(torch.zeros(3), [torch.tensor([1.0, 1, 5]), torch.tensor([1.0, 2, -1])])
    merged = merge_one("sce", group, {"select_topk": 0.5, "counting": "floor"})
    assert merged.tolist() == [0.0, 0.0, 5.0]


def test_della_divides_by_each_probability() -> None:
    """The reference multiplies all survivors by one factor; then the mean draw is off."""
    delta = torch.linspace(-1, 1, 200).reshape(2, 100)
    group = group_like(torch.zeros(2, 100), [delta])
    draws = [merge_one("della_linear", group, seed=seed) for seed in range(400)]
    error = (torch.stack(draws).mean(0) - delta).norm() / delta.norm()
    assert float(error) < 0.08
    probability = keep_probabilities(delta, 0.5, 0.15)
    kept = draws[0] != 0
    assert torch.allclose(draws[0][kept], (delta / probability)[kept])


def test_della_rows_of_one_entry_are_kept_with_the_density() -> None:
    """The reference divides 0 by 0 there."""
    assert keep_probabilities(torch.ones(3, 1), 0.5, 0.15).tolist() == [[0.5]] * 3
    merged = merge_one("della", group_like(torch.zeros(3, 1), [torch.ones(3, 1)]))
    assert bool(torch.isfinite(merged).all())


def test_della_refuses_probabilities_outside_0_and_1() -> None:
    group = group_like(torch.zeros(4), [torch.ones(4)])
    with pytest.raises(MergeError, match=r"from -0\.05 to 0\.25.*smaller epsilon"):
        merge_one("della", group, {"density": 0.1, "epsilon": 0.15})


def test_model_stock_stays_between_base_and_mean() -> None:
    """Opposed deltas give a negative factor, and there is a pole at c = -1 / (T - 1)."""
    base = torch.zeros(2)
    opposed = [torch.tensor([1.0, 0.1]), torch.tensor([-1.0, 0.1])]
    assert torch.equal(merge_one("model_stock", group_like(base, opposed)), base)
    unclamped = merge_one("model_stock", group_like(base, opposed), profile="mergekit")
    assert float(unclamped.abs().max()) > 1.0


def test_model_stock_keeps_the_angle_of_tiny_deltas() -> None:
    """An absolute guard of 1e-6 on the norms would shrink their cosine."""
    deltas = [torch.tensor([3e-5, 1e-5]), torch.tensor([3e-5, -1e-5])]
    tiny = merge_one("model_stock", group_like(torch.zeros(2), deltas))
    large = merge_one("model_stock", group_like(torch.zeros(2), [1e5 * d for d in deltas]))
    assert torch.allclose(tiny * 1e5, large, rtol=1e-4)


def test_multislerp_is_the_normalised_mean() -> None:
    """The reference's step in the tangent space at that mean moves nothing."""
    x, y = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 1.0])
    merged = merge_one("multislerp", group_like(None, [x, y]))
    assert torch.allclose(merged, torch.full((2,), 2 * 0.5**0.5))


def test_multislerp_without_a_direction() -> None:
    x = torch.tensor([1.0, 0.0])
    assert merge_one("multislerp", group_like(None, [x, -x])).tolist() == [0.0, 0.0]
    thirds = [torch.tensor([1.0, 0]), torch.tensor([-0.5, 0.75**0.5])]
    with pytest.raises(MergeError, match="directions cancel"):
        merge_one("multislerp", group_like(None, [*thirds, -thirds[0] - thirds[1]]))


def test_tsv_leaves_out_the_null_space() -> None:
    """Two equal experts have four singular vectors in a plane; the references fill them up."""
    same = torch.diag(torch.tensor([4.0, 3.0, 2.0, 1.0]))
    group = group_like(torch.zeros(4, 4), [same, same])
    expected = torch.diag(torch.tensor([4.0, 3.0, 0.0, 0.0]))
    assert torch.allclose(merge_one("tsv", group), expected, atol=1e-6)
    polluted = merge_one("tsv", group, profile="fusion_bench")
    assert not torch.allclose(polluted, expected, atol=0.1)


def test_iso_stays_in_the_space_of_low_rank_deltas() -> None:
    """The references give a rank-2 sum in ten dimensions ten equal singular values."""
    low = torch.zeros(10, 10)
    low[0, 0], low[1, 1] = 3.0, 1.0
    group = group_like(torch.zeros(10, 10), [low])
    for method in ("iso_c", "iso_cts"):
        values = torch.linalg.svdvals(merge_one(method, group))
        assert torch.allclose(values[:2], torch.full((2,), 2.0), atol=1e-5)
        assert float(values[2:].max()) < 1e-5
    spread = torch.linalg.svdvals(merge_one("iso_c", group, profile="fusion_bench"))
    assert torch.allclose(spread, torch.full((10,), 0.4), atol=1e-5)


@pytest.mark.parametrize("method", ["wudi", "optmerge", "swudi", "aswudi", "tsv", "iso_cts"])
def test_an_expert_that_left_a_tensor_unchanged_is_no_nan(method: str) -> None:
    """The references divide by the squared norm of its delta."""
    generator = torch.Generator().manual_seed(3)
    moved = [torch.randn(6, 5, generator=generator) for _ in range(2)]
    merged = merge_one(method, group_like(torch.zeros(6, 5), [*moved, torch.zeros(6, 5)]))
    assert bool(torch.isfinite(merged).all())
    assert float(merged.abs().max()) > 0.01


def test_wudi_of_unmoved_expert_equals_wudi_without_it() -> None:
    generator = torch.Generator().manual_seed(4)
    moved = [torch.randn(6, 5, generator=generator) for _ in range(2)]
    without = merge_one("wudi", group_like(torch.zeros(6, 5), moved))
    with_it = merge_one("wudi", group_like(torch.zeros(6, 5), [*moved, torch.zeros(6, 5)]))
    assert torch.allclose(without, with_it, atol=1e-5)


def test_optmerge_does_not_explode_on_its_singular_system() -> None:
    """The unregularised minimiser of the truncated loss is forty times too long."""
    generator = torch.Generator().manual_seed(5)
    deltas = [1e-3 * torch.randn(32, 24, generator=generator) for _ in range(3)]
    merged = merge_one("optmerge", group_like(torch.zeros(32, 24), deltas))
    assert float(merged.norm()) < float(torch.stack(deltas).sum(0).norm())


def test_optmerge_works_on_deltas_that_overflow_in_fp16() -> None:
    generator = torch.Generator().manual_seed(6)
    deltas = [torch.randn(8, 6, generator=generator) for _ in range(3)]
    large = merge_one("optmerge", group_like(torch.zeros(8, 6), deltas))
    tiny = merge_one("optmerge", group_like(torch.zeros(8, 6), [1e-6 * d for d in deltas]))
    assert torch.allclose(tiny * 1e6, large, rtol=1e-4, atol=1e-6)


def test_knots_includes_the_scale_of_an_adapter() -> None:
    """The reference ignores alpha / r; it then weighs adapters of different scale alike."""
    generator = torch.Generator().manual_seed(7)
    factors = tuple(
        LowRank(
            A=torch.randn(2, 8, generator=generator),
            B=torch.randn(9, 2, generator=generator),
            scale=scale,
        )
        for scale in (0.5, 2.0)
    )
    experts = [factor.scale * factor.B @ factor.A for factor in factors]
    group = replace(group_like(torch.zeros(9, 8), experts), factors=factors)
    merged = merge_one("knots", group, {"inner": "sum"})
    assert torch.allclose(merged, experts[0] + experts[1], atol=1e-5)


def test_products_are_merged_and_not_factors() -> None:
    generator = torch.Generator().manual_seed(8)
    lefts = [torch.randn(6, 2, generator=generator) for _ in range(2)]
    rights = [torch.randn(2, 5, generator=generator) for _ in range(2)]
    experts = [b @ a for b, a in zip(lefts, rights, strict=True)]
    mean_product = torch.stack(experts).mean(0)
    product_of_means = torch.stack(lefts).mean(0) @ torch.stack(rights).mean(0)
    merged = merge_one("linear", group_like(torch.zeros(6, 5), experts))
    assert torch.allclose(merged, mean_product, atol=1e-6)
    assert not torch.allclose(merged, product_of_means, atol=0.1)


def test_ties_after_dare_sees_all_experts() -> None:
    """MLLMerging hands a single model to the second step."""
    experts = [torch.tensor([1.0, 0.0]), torch.tensor([0.0, 2.0])]
    merged = merge_one("dare_ties", group_like(torch.zeros(2), experts), {"density": 1.0})
    assert merged.tolist() == [1.0, 2.0]


def test_dare_divides_by_the_density() -> None:
    delta = torch.full((10_000,), 2.0)
    merged = merge_one("dare_linear", group_like(torch.zeros(10_000), [delta]), {"density": 0.3})
    kept = merged != 0
    assert bool((merged[kept] == 2.0 / 0.3).logical_or((merged[kept] - 2 / 0.3).abs() < 1e-6).all())
    assert abs(int(kept.sum()) - 3000) < 5 * (10_000 * 0.3 * 0.7) ** 0.5


def test_magmax_does_not_depend_on_the_order_of_equal_deltas() -> None:
    one, other = torch.tensor([2.0]), torch.tensor([-2.0])
    first = merge_one("magmax", group_like(torch.zeros(1), [one, other]))
    assert torch.equal(first, merge_one("magmax", group_like(torch.zeros(1), [other, one])))


def test_widen_counts_a_column_of_zeros_as_unturned() -> None:
    base = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    expert = torch.tensor([[0.5, 1.0], [0.5, 1.5]])
    merged = merge_one("widen", group_like(base, [expert, base.clone()]))
    assert bool(torch.isfinite(merged).all())
