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
from families_tiny import clip, picture, sound
from transformers import PreTrainedModel, ProcessorMixin

from omnicompose.families import FAMILIES as ENTRIES
from omnicompose.modalities import MODALITIES

OTHERS = {
    "image": lambda: picture(2, height=64, width=24),
    "video": lambda: clip(2, num_frames=6),
    "audio": lambda: sound(2, num_samples=14000),
}
"""Media of other sizes, which some families turn into more embeddings."""


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
    check_together(model, processor, modality)


def check_together(model: PreTrainedModel, processor: ProcessorMixin, modality: str) -> None:
    """Media encoded as one batch are what they are alone, though one differs in shape."""
    media = [medium(modality), OTHERS[modality](), medium(modality, seed=1)]
    batch = processor(text=f"<{modality}>" * 3, return_tensors="pt", **{ARGUMENTS[modality]: media})
    inputs = batch[MODALITIES[modality].input_name]
    with torch.no_grad():
        together = model.embed_each(modality, inputs)
        alone = [model.embed_each(modality, [one])[0] for one in inputs]
    for (found, places), (expected, places_alone) in zip(together, alone, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
        assert torch.equal(places, places_alone)
    assert not torch.allclose(together[0][0], together[2][0])


def test_every_family_has_a_fixture() -> None:
    tested = {f"{family.front}Model" for family in FAMILIES.values()}
    claimed = {entry.native.base_class for entry in ENTRIES.values() if entry.native}
    assert claimed | {"LlavaModel"} == tested
