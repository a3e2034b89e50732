"""An expert composed alone is the expert: its logits and its words, on real media."""

from pathlib import Path

import pytest
import torch
from families_all import (
    ARGUMENTS,
    CASES,
    FAMILIES,
    Shelf,
    load_composite,
    load_original,
    medium,
    say,
)

from omnicompose.families import FAMILIES as ENTRIES


@pytest.mark.filterwarnings("ignore")  # transformers' own about its processors
@pytest.mark.parametrize(("name", "modality"), CASES)
def test_an_expert_alone_is_itself(shelf: Shelf, tmp_path: Path, name: str, modality: str) -> None:
    original = load_original(shelf, name)
    out = shelf.compose(tmp_path / "out", {modality: f"{name}, weight: 1.0"})
    model, processor = load_composite(out)
    theirs = original.inputs(modality, "a red ", "what is this?")
    ours = processor(
        text=f"a red <{modality}>what is this?",
        return_tensors="pt",
        **{ARGUMENTS[modality]: [medium(modality)]},
    )
    assert ours["input_ids"].shape == theirs["input_ids"].shape
    expected = original.logits(theirs)
    with torch.no_grad():
        found = model(**ours).logits[..., : expected.shape[-1]]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert say(model, ours) == say(original.model, theirs)


def test_every_family_has_a_fixture() -> None:
    tested = {f"{family.name}Model" for family in FAMILIES.values()}
    claimed = {entry.native.base_class for entry in ENTRIES.values() if entry.native}
    assert claimed == tested
