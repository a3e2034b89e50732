"""ModelCompose's folders, composed here, answer as in the published code (tests/goldens/e2e).

Single experts of every kind; NaiveMC (its factors merged apart, as published) and DAMC, composed
here from the experts themselves; merged folders as they lie on disk.
"""

import numpy as np
import pytest
import torch
from modelcompose_goldens import (
    FOLDER,
    INPUTS,
    MODELS,
    NUM_WORDS,
    OUR_NAMES,
    case_inputs,
    case_tensors,
    media_tensors,
    write_base,
    write_recipe,
)
from transformers import AutoModelForMultimodalLM, AutoProcessor

from omnicompose.composer import compose

CLOSE = {"atol": 1e-4, "rtol": 1e-4}
LOGITS = {"atol": 5e-4, "rtol": 5e-4}
FULL_CLIP = 256
"""Of more features than these the goldens keep every sixteenth."""
SINGLE = [name for name in MODELS if name.startswith("expert_")]
NAIVE = [name for name in MODELS if name.startswith("naive_")]
DAMC = [name for name in MODELS if name.startswith("damc_")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("modelcompose")
    write_base(place / "base")
    return place


def load(folder, name, experts, **choices):
    out = folder / name
    recipe = write_recipe(folder / f"{name}.yaml", folder / "base", experts, **choices)
    compose(recipe, out)
    return AutoModelForMultimodalLM.from_pretrained(out).eval(), out


def check(model, name, case):
    expected = case_tensors(name, case)
    inputs = case_inputs(expected["input_ids"], model.config.modalities)
    if case == "full_clip":
        inputs["input_features"] = whole_sound()
    logits = model(**inputs).logits[..., :NUM_WORDS]
    torch.testing.assert_close(logits, expected["logits"], **LOGITS)
    steps = expected["generated"].shape[1]
    said = model.generate(
        **inputs,
        max_new_tokens=steps,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
    )
    length = inputs["input_ids"].shape[1]
    assert torch.equal(said.sequences[:, length:], expected["generated"])
    going = torch.ones(len(logits), dtype=torch.bool)
    for step, found in enumerate(said.logits if "step_logits" in expected else ()):
        wanted = expected["step_logits"][:, step]
        torch.testing.assert_close(found[going, :NUM_WORDS], wanted[going], **LOGITS)
        going &= expected["generated"][:, step] != model.config.text_config.eos_token_id
    check_features(model, expected, inputs)


def check_features(model, expected, inputs):
    """Encoder and connector by themselves, where the case recorded them."""
    for theirs, name in OUR_NAMES.items():
        if f"encoder_features.{theirs}" in expected:
            features = getattr(model.model, f"{name}_encoder")(inputs[INPUTS[name]])
            wanted = expected[f"encoder_features.{theirs}"]
            kept = features[:, ::16] if len(features[0]) > FULL_CLIP else features
            torch.testing.assert_close(kept.reshape(wanted.shape), wanted, **CLOSE)
            projected = getattr(model.model, f"{name}_connector")(features)
            torch.testing.assert_close(projected, expected[f"projected.{theirs}"], **CLOSE)


def whole_sound():
    from omnicompose.modeling import KaldiFbankFeatureExtractor
    from omnicompose.modeling.preprocessors import Preprocessors

    parts = Preprocessors(image=None, audio=KaldiFbankFeatureExtractor(), video=None)
    return torch.stack(parts.tensors("audio", [FOLDER / "media" / "mono16k.wav"], {}))


def cases(name):
    return [case["case"] for case in MODELS[name]["cases"]]


@pytest.mark.parametrize("name", SINGLE)
@torch.no_grad()
def test_an_expert_alone_answers_as_it_did(folder, name) -> None:
    entry = MODELS[name]
    (theirs,) = entry["modalities_in_config"]
    model, _ = load(folder, name, {OUR_NAMES[theirs]: entry["checkpoint"]}, modality="exact")
    for case in cases(name):
        check(model, name, case)


@pytest.mark.parametrize("name", NAIVE)
@torch.no_grad()
def test_naive_merges_of_factors_answer_as_there(folder, name) -> None:
    """What the published code calls averaging, which is no average of what the experts do."""
    entry = MODELS[name]
    experts = {OUR_NAMES[source.split("-")[1]]: source for source in entry["experts"]}
    parameters = {"strategy": entry["strategy"], "keep": entry["K"] / 100}
    text = {"method": "modelcompose_factors", "parameters": parameters}
    model, _ = load(folder, name, experts, text=text)
    for case in cases(name):
        check(model, name, case)


@torch.no_grad()
def test_a_merged_folder_answers_as_it_did(folder) -> None:
    name = "naive_ties_mean_all"
    entry = MODELS[name]
    experts = {OUR_NAMES[theirs]: entry["checkpoint"] for theirs in entry["modalities_in_config"]}
    model, _ = load(folder, "merged", experts)
    for case in cases(name):
        check(model, name, case)


@pytest.mark.parametrize("name", DAMC)
@torch.no_grad()
def test_damc_composed_here_answers_as_there(folder, name) -> None:
    entry = MODELS[name]
    pairs = entry["strategy"].removeprefix("online-merge-reset-").split(",")
    weights = dict(pair.removeprefix("default-").split("=") for pair in pairs)
    experts = {}
    for source in entry["experts"]:
        theirs = source.split("-")[1]
        experts[OUR_NAMES[theirs]] = {"source": source, "weight": float(weights[theirs])}
    text = {"method": "task_arithmetic"}
    model, _ = load(folder, name, experts, text=text, modality="exact")
    for case in cases(name):
        check(model, name, case)


@torch.no_grad()
def test_a_folder_merged_online_brings_its_coefficients(folder) -> None:
    entry = MODELS["damc_all"]
    experts = {
        OUR_NAMES[theirs]: {"source": entry["checkpoint"], "weight": 1.0}
        for theirs in entry["modalities_in_config"]
    }
    text = {"method": "task_arithmetic"}
    model, _ = load(folder, "online", experts, text=text, modality="exact")
    for case in cases("damc_all"):
        check(model, "damc_all", case)


@pytest.fixture(scope="module")
def four(folder):
    """All four modalities in one composite, beside its processor."""
    experts = {name: f"experts/multimodal-{theirs}-damc" for theirs, name in OUR_NAMES.items()}
    model, out = load(folder, "four", experts, modality="exact")
    return model, AutoProcessor.from_pretrained(out)


@torch.no_grad()
def test_four_modalities_from_raw_media_in_one_chat(four, tmp_path) -> None:
    model, processor = four
    media = media_tensors()
    np.save(tmp_path / "cloud.npy", media["point"][0].numpy())
    frames = np.random.default_rng(0).integers(0, 255, (9, 30, 40, 3), dtype=np.uint8)
    content = [
        {"type": "image", "path": str(FOLDER / "media" / "img_50x36.png")},
        {"type": "audio", "path": str(FOLDER / "media" / "stereo22k.wav")},
        {"type": "video", "video": frames},
        {"type": "point", "path": str(tmp_path / "cloud.npy")},
        {"type": "text", "text": "w5 w6 ?"},
    ]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        add_generation_prompt=True,
    )
    torch.testing.assert_close(inputs["pixel_values"], media["image"][:1], **CLOSE)
    assert torch.equal(inputs["points"], media["point"][:1])
    assert inputs["input_features"].shape == (1, 1024, 128)
    assert inputs["pixel_values_videos"].shape == (1, 4, 3, 28, 28)
    types = inputs["mm_token_type_ids"][0]
    assert [(types == kind).sum().item() for kind in (1, 2, 3, 4)] == [7, 23, 7, 20]
    said = model.generate(**inputs, max_new_tokens=4, do_sample=False)
    assert said.shape[1] <= inputs["input_ids"].shape[1] + 4


def test_its_experts_bring_the_prompt_that_they_were_trained_with(four) -> None:
    _, processor = four
    asked = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "w5"}]}]
    prompt = processor.apply_chat_template(asked, add_generation_prompt=True)
    assert prompt.startswith("A chat between a curious user and an artificial intelligence")
    assert prompt.endswith(" USER: <image>\nw5 ASSISTANT:")
