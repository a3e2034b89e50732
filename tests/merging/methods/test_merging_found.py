"""Coefficients from files, reversible directions, and ranks by density: toy cases."""

from dataclasses import replace

import pytest
import torch
from golden_model import group_like, merge_one

from omnicompose.merging.directions import basis_shape, brought_back
from omnicompose.merging.method import Measured
from omnicompose.merging.methods.r_tsvm_like import density, outlier_mass, shares
from omnicompose.merging.methods.rmm import decomposed


def two_experts(shape: tuple[int, ...] = (3, 4)):
    generator = torch.Generator().manual_seed(0)
    base, *moved = (torch.randn(*shape, generator=generator) for _ in range(3))
    return group_like(base, [base + one for one in moved]), moved


@pytest.mark.parametrize("chunks", [1, 3, 5])
def test_coefficients_are_per_chunk_as_torch_cuts(chunks: int) -> None:
    group, moved = two_experts()
    rows = [torch.arange(1.0, chunks + 1), torch.full((chunks,), -0.5)]
    measured = tuple(Measured(total=row, count=0.0) for row in rows)
    merged = merge_one("coefficients", replace(group, measured=measured))
    expected = group.base.clone()
    for row, delta in zip(rows, moved, strict=True):
        pieces = delta.flatten().chunk(chunks)
        expected += torch.cat([c * p for c, p in zip(row, pieces, strict=False)]).view(3, 4)
    torch.testing.assert_close(merged, expected)


def test_tensors_without_coefficients_take_the_weights() -> None:
    group, moved = two_experts()
    merged = merge_one("coefficients", replace(group, weights=(0.5, 0.25)))
    torch.testing.assert_close(merged, group.base + 0.5 * moved[0] + 0.25 * moved[1])


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_directions_leave_out_the_smallest_singular_values(count: int) -> None:
    rows = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(1))
    coefficients, basis = decomposed(rows, count)
    assert basis.shape == basis_shape((4, 6), count)
    mean = rows.mean(0)
    error = sum(
        float((mean + brought_back(coefficients[i], basis, (4, 6)) - rows[i]).square().sum())
        for i in range(3)
    )
    values = torch.linalg.svdvals((rows - mean).transpose(0, 1))
    assert error == pytest.approx(float(values[:, count:].square().sum()), abs=1e-4)


def test_ranks_and_weights_of_alike_experts_are_those_of_tsv() -> None:
    group, moved = two_experts((6, 6))
    alike = [moved[0], moved[0].flip(0).T]
    group = replace(group, experts=tuple(group.base + one for one in alike))
    found, plain = merge_one("r_tsvm_like", group), merge_one("tsv", group)
    torch.testing.assert_close(found, plain, atol=1e-5, rtol=1e-5)


def test_outliers_and_density() -> None:
    flat, spike = torch.ones(100), torch.ones(100)
    spike[0] = 50.0
    assert outlier_mass(flat) == outlier_mass(torch.zeros(4)) == 0.0
    assert outlier_mass(spike) == pytest.approx(50 / 149)
    assert density(flat) == pytest.approx(1.0)
    assert density(torch.tensor([0.0, 3.0, 0.0, 0.0])) == pytest.approx(0.25)
    assert shares([1.0, 1.0], 8) == [4, 4]
    assert shares([0.75, 0.25], 8) == [6, 2]
    assert shares([0.0, 0.0], 8) == [4, 4]


def test_widen_keeps_a_fine_tune_beside_a_model_pretrained_further() -> None:
    """A delta a thousand times smaller keeps the columns that matter to it, whole."""
    generator = torch.Generator().manual_seed(2)
    base = torch.randn(6, 8, generator=generator)
    tuned, pretrained = torch.zeros(6, 8), torch.randn(6, 8, generator=generator)
    tuned[:, :2] = 1e-3 * torch.randn(6, 2, generator=generator)
    merged = merge_one("widen", group_like(base, [base + tuned, base + pretrained]))
    for column in (0, 1):
        parts = torch.stack([tuned[:, column], pretrained[:, column]], dim=1).double()
        moved = (merged - base)[:, column].double()
        weights = torch.linalg.lstsq(parts, moved[:, None]).solution.flatten()
        assert float(weights[0]) == pytest.approx(1.0, abs=5e-3)
        assert 0.0 < float(weights[1]) <= 1.0 + 1e-6
