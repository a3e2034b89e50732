"""The mask against the values of specs/mmer.md section 6."""

import pytest
import torch

from omnicompose.merging.masked import Masked
from omnicompose.merging.method import MergeContext, TensorGroup

MERGED = torch.tensor([2.5, 3.0, 1.0, 3.0])
FIRST, SECOND = torch.tensor([4.0, -2.5, 1.0, 3.0]), torch.tensor([1.0, 3.0, 1.0, -1.0])


def masked(own: torch.Tensor, threshold: float, signed: bool) -> torch.Tensor:
    base = torch.full((4,), 10.0)
    group = TensorGroup(
        name="w",
        shape=(4,),
        base=base,
        experts=(base + own, base + MERGED),
        expert_names=("own", "merged"),
        weights=(1.0, 1.0),
    )
    context = MergeContext(parameters={"threshold": threshold, "signed": signed})
    return Masked().merge(group, context) - base


@pytest.mark.parametrize(
    ("own", "threshold", "signed", "mask"),
    [
        (FIRST, 1.0, True, "1011"),
        (FIRST, 1.0, False, "1011"),
        (SECOND, 1.0, True, "0110"),
        (FIRST, 0.4, False, "1111"),
        (FIRST, 0.4, True, "1011"),
        (SECOND, 0.4, False, "1110"),
        (SECOND, 0.4, True, "1110"),
    ],
)
def test_masks_of_the_specification(
    own: torch.Tensor, threshold: float, signed: bool, mask: str
) -> None:
    kept = torch.tensor([float(bit) for bit in mask])
    assert torch.equal(masked(own, threshold, signed), kept * MERGED)


def test_at_threshold_one_no_other_mask_is_nearer() -> None:
    own = torch.randn(4, generator=torch.Generator().manual_seed(0))
    best = min(
        float((own - torch.tensor(bits) * MERGED).abs().sum())
        for bits in torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4).tolist()
    )
    assert float((own - masked(own, 1.0, True)).abs().sum()) == pytest.approx(best, abs=1e-5)


def test_an_unchanged_entry_is_masked_out() -> None:
    assert torch.equal(masked(torch.zeros(4), 0.01, False), torch.zeros(4))
