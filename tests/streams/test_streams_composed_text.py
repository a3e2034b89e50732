"""Composed streams: full fine-tunes, text that follows the only modality, and what is refused."""

from pathlib import Path

import pytest
import torch
from streams_build import BOTH, SINGLE, ask, build, facts, load, logits
from tiny_experts import write_llava
from transformers import LlavaForConditionalGeneration

from omnicompose.errors import PlanError

MASKED = SINGLE + "modality: masked\ntext: {method: ties}\n"


@pytest.fixture(scope="module")
def finetuned(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LLaVA whose whole language model, norms included, left the base."""
    folder = write_llava(tmp_path_factory.mktemp("llava") / "finetuned", tiny / "base")
    model = LlavaForConditionalGeneration.from_pretrained(folder)
    torch.manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.model.language_model.named_parameters():
            if "embed" not in name:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    model.save_pretrained(folder)
    return folder


def test_media_tokens_see_a_full_fine_tune_as_it_was_norms_included(
    tiny: Path, finetuned: Path, built
) -> None:
    """One layer deep media attend to media alone, so their states must be the expert's own."""
    text = f"experts: {{image: {{source: {finetuned}}}, audio: {{source: @audio}}}}\n"
    text += "modality: exact\ndtype: float32\nallow_different_base: true\n"
    folder = built(text)
    norms = {"input_layernorm", "post_attention_layernorm", "norm"}
    assert norms <= set(facts(folder)["image"]["roles"])
    model, inputs = load(folder), ask(folder, "image")
    count = int((inputs["mm_token_type_ids"] == 1).sum())
    media = torch.cat(model.get_media_features("image", inputs["pixel_values"]))[None]
    types = torch.ones(1, count, dtype=torch.long)
    expert = LlavaForConditionalGeneration.from_pretrained(finetuned).eval()
    with torch.no_grad():
        ours = model.model(inputs_embeds=media, mm_token_type_ids=types).last_hidden_state
        theirs = expert.model.language_model(inputs_embeds=media).last_hidden_state
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("experts", [SINGLE, BOTH])
def test_text_of_a_single_modality_can_be_the_experts_own(tiny: Path, built, experts: str) -> None:
    own = built(experts + "modality: exact\nstreams: {single_modality_text: own}\n")
    source = "audio" if experts is SINGLE else "audio-decoupled"
    alone = built(f"experts: {{audio: {{source: @{source}}}}}\nmodality: exact\ndtype: float32\n")
    words = slice(0, 275)
    heard = logits(own, "audio")[..., words]
    torch.testing.assert_close(heard, logits(alone, "audio")[..., words], rtol=1e-4, atol=1e-5)
    merged = built(experts + "modality: exact\n")
    assert not torch.allclose(heard, logits(merged, "audio")[..., words], atol=1e-4)
    for modalities in (("audio", "image"), ()):
        assert torch.equal(logits(own, *modalities), logits(merged, *modalities))


def test_generation_keeps_to_the_single_modality(tiny: Path, built) -> None:
    folder = built(BOTH + "modality: exact\nstreams: {single_modality_text: own}\n")
    model, inputs = load(folder), ask(folder, "audio")
    options = {"max_new_tokens": 5, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    cached = model.generate(**inputs, **options)
    assert torch.equal(model.generate(**inputs, **options, use_cache=False), cached)
    assert model.generate(**inputs, **options, num_beams=2).shape == cached.shape


REFUSED = {
    "streams: {rank: 2}\nmodality: masked\n": "only factors of `modality: exact` have a rank",
    "streams: {storage: packed}\nmodality: exact\n": "storage: packed does not exist for",
    "streams: {storage: packed}\nmodality: emr\n": "EMR's shared delta is not in the text weights",
    "streams: {storage: factored}\nmodality: exact\ntext: {method: ties}\n": "no sum of low-rank",
    "streams: {roles: [smell]}\nmodality: exact\n": "roles: found smell, which this backbone",
    "streams: {layers: [9]}\nmodality: exact\n": "layers: found 9, which this backbone",
    "streams: {single_modality_text: own}\n": "needs weights of an expert's own",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_cannot_be_is_refused(tiny: Path, tmp_path: Path, text: str) -> None:
    with pytest.raises(PlanError, match=REFUSED[text]):
        build(tiny, tmp_path / "out", SINGLE + text)


def test_a_resumed_run_gives_the_same_manifest(tiny: Path, built, tmp_path: Path) -> None:
    again = build(tiny, tmp_path / "again", MASKED, memory_bytes=1 << 26)
    assert (again / "manifest.json").read_bytes() == (built(MASKED) / "manifest.json").read_bytes()
