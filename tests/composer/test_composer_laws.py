"""What a composed folder must be: the expert itself, the same bytes, whole or not there."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from PIL import Image
from safetensors.torch import load_file
from transformers import (
    AutoModelForMultimodalLM,
    AutoProcessor,
    LlamaForCausalLM,
    LlavaForConditionalGeneration,
)

from omnicompose.composer import ComposeOptions, compose
from omnicompose.connectors import make_connector
from omnicompose.encoders import make_encoder
from omnicompose.errors import ExportError, PlanError, SourceError
from omnicompose.export import verify

TEXT_ROWS = 275
"""Rows of the tiny base's own tokens; what follows are placeholders and padding."""


def build(tiny: Path, out: Path, text: str, **options: object) -> Path:
    recipe = out.parent / f"{out.name}.yaml"
    recipe.write_text(f"base: {tiny / 'base'}\n" + text.replace("@", f"{tiny}/"))
    compose(recipe, out, ComposeOptions(**options))
    return out


def load(folder: Path) -> tuple[object, object]:
    model = AutoModelForMultimodalLM.from_pretrained(folder, dtype=torch.float32)
    return model.eval(), AutoProcessor.from_pretrained(folder)


@pytest.fixture(scope="module")
def both(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("composed") / "both"
    return build(tiny, out, "experts: {image: {source: @image}, audio: {source: @audio}}\n")


def test_an_image_expert_alone_is_the_llava_with_its_adapter(tiny: Path, tmp_path: Path) -> None:
    out = build(tiny, tmp_path / "out", "experts: {image: {source: @image}}\n")
    model, processor = load(out)
    picture = Image.fromarray(np.arange(768, dtype=np.uint8).reshape(16, 16, 3))
    content = [{"type": "image", "image": picture}, {"type": "text", "text": "what is this?"}]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        add_generation_prompt=True,
    )
    llava = LlavaForConditionalGeneration.from_pretrained(tiny / "llava", dtype=torch.float32)
    original = PeftModel.from_pretrained(llava, tiny / "image").eval()
    assert int((inputs["input_ids"] == llava.config.image_token_id).sum()) == 4
    with torch.no_grad():
        ours = model(**inputs).logits
        theirs = original(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            pixel_values=inputs["pixel_values"],
        ).logits
    torch.testing.assert_close(ours[..., :TEXT_ROWS], theirs[..., :TEXT_ROWS], atol=1e-5, rtol=1e-5)


def test_an_audio_expert_alone_is_its_parts_put_together(tiny: Path, tmp_path: Path) -> None:
    out = build(tiny, tmp_path / "out", "experts: {audio: {source: @audio}}\n")
    model, processor = load(out)
    entry = json.loads((tiny / "audio/expert.json").read_text())
    encoder = make_encoder(
        {
            "type": "whisper",
            "config": json.loads((tiny / "audio/encoder/config.json").read_text())["config"],
        }
    )
    encoder.load_state_dict(load_file(tiny / "audio/encoder/model.safetensors"))
    tensors = load_file(tiny / "audio/connector.safetensors")
    prefix = tensors.pop("prefix")
    connector = make_connector(entry["connector"])
    connector.load_state_dict(tensors)
    language = PeftModel.from_pretrained(
        LlamaForCausalLM.from_pretrained(tiny / "base", dtype=torch.float32),
        tiny / "audio/adapter",
    )
    sound = np.sin(np.arange(8000) / 5).astype(np.float32)
    inputs = processor(text="<audio>what is this?", audio=[sound], return_tensors="pt")
    ids = inputs["input_ids"][0]
    placeholder = processor.tokenizer.convert_tokens_to_ids("<audio>")
    assert int((ids == placeholder).sum()) == 2 + 3
    with torch.no_grad():
        heard = connector(encoder.eval()(inputs["input_features"]))[0]
        words = language.get_input_embeddings()(ids[ids != placeholder])
        embeddings = torch.cat([prefix, heard, words])[None]
        theirs = language.eval()(inputs_embeds=embeddings).logits
        ours = model(**inputs).logits
    torch.testing.assert_close(ours[..., :TEXT_ROWS], theirs[..., :TEXT_ROWS], atol=1e-5, rtol=1e-5)


def test_loads_with_nothing_missing_and_nothing_unexpected(both: Path) -> None:
    _, info = AutoModelForMultimodalLM.from_pretrained(both, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]


def test_the_merge_is_the_mean_of_the_products(tiny: Path, both: Path) -> None:
    name = "layers.1.mlp.down_proj"
    merged = load_file(both / "model.safetensors")[f"model.language_model.{name}.weight"]
    base = load_file(tiny / "base/model.safetensors")[f"model.{name}.weight"]
    deltas = []
    for file, prefix in (("image", "language_model."), ("audio/adapter", "")):
        factors = load_file(tiny / file / "adapter_model.safetensors")
        path = f"base_model.model.model.{prefix}{name}"
        deltas.append(2.0 * factors[f"{path}.lora_B.weight"] @ factors[f"{path}.lora_A.weight"])
    torch.testing.assert_close(merged, base + sum(deltas) / 2, atol=1e-6, rtol=1e-6)


def test_composing_twice_gives_the_same_bytes(tiny: Path, both: Path, tmp_path: Path) -> None:
    text = "experts: {image: {source: @image}, audio: {source: @audio}}\n"
    again = build(tiny, tmp_path / "again", text, memory_bytes=1 << 24)
    files = sorted(path.name for path in both.iterdir() if path.is_file())
    assert files == sorted(path.name for path in again.iterdir() if path.is_file())
    for name in files:
        assert (both / name).read_bytes() == (again / name).read_bytes(), name


def test_an_output_that_exists_is_refused_before_any_work(tiny: Path, both: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in both.iterdir()}
    with pytest.raises(ExportError, match="exists already"):
        build(tiny, both, "experts: {image: {source: @image}}\n")
    assert before == {path.name: path.stat().st_mtime_ns for path in both.iterdir()}


def test_a_missing_preprocessor_leaves_no_finished_folder(tiny: Path, tmp_path: Path) -> None:
    import shutil

    expert = tmp_path / "audio"
    shutil.copytree(tiny / "audio", expert)
    (expert / "preprocessor_config.json").unlink()
    text = f"experts: {{audio: {{source: {expert}}}}}\n"
    with pytest.raises(SourceError, match="no usable preprocessor configuration for audio"):
        build(tiny, tmp_path / "out", text)
    assert not (tmp_path / "out").exists()


def test_weights_that_do_not_fit_their_configuration_are_refused(
    tiny: Path, tmp_path: Path
) -> None:
    import shutil

    expert = tmp_path / "audio"
    shutil.copytree(tiny / "audio", expert)
    entry = json.loads((expert / "expert.json").read_text())
    entry["connector"]["config"]["num_queries"] = 5
    (expert / "expert.json").write_text(json.dumps(entry))
    with pytest.raises(PlanError, match=r"audio_connector\.queries has shape \[3, 16\]"):
        build(tiny, tmp_path / "out", f"experts: {{audio: {{source: {expert}}}}}\n")
    assert not (tmp_path / "out").exists()


def test_verify_finds_one_changed_bit(tiny: Path, tmp_path: Path) -> None:
    out = build(tiny, tmp_path / "out", "experts: {image: {source: @image}}\n")
    assert verify(out) == []
    weights = out / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert [problem.split(":")[0] for problem in verify(out)] == [str(weights)]
    (out / "config.json").unlink()
    assert any("config.json: missing" in problem for problem in verify(out))


def test_decoupled_experts_compose_exactly_in_both_forms(tiny: Path, tmp_path: Path) -> None:
    """Factored streams (linear text) and dense ones (the same merge, not known as linear)."""
    experts = "experts: {image: {source: @image}, audio: {source: @audio-decoupled}}\n"
    text = experts + "modality: exact\ndtype: float32\n"
    factored, _ = load(build(tiny, tmp_path / "factored", text))
    # TIES that keeps everything and elects nothing away is not linear by name; its text side
    # differs, so only the modality's own tokens of a one-expert prompt can be compared.
    dense, _ = load(build(tiny, tmp_path / "dense", text + "text: {method: ties}\n"))
    assert factored.config.modalities["audio"]["stream"]["form"] == "factored"
    assert dense.config.modalities["audio"]["stream"]["form"] == "dense"
    layer = "model.language_model.layers.0.mlp.up_proj"
    ours, theirs = factored.state_dict(), dense.state_dict()
    own = ours[f"{layer}.weight"] + (
        ours[f"{layer}.streams.audio.lora_B"] @ ours[f"{layer}.streams.audio.lora_A"]
    )
    torch.testing.assert_close(own, theirs[f"{layer}.streams.audio.weight"], atol=1e-5, rtol=1e-5)


def test_masks_keep_of_the_merge_what_is_near_the_expert(tiny: Path, tmp_path: Path) -> None:
    experts = "experts: {image: {source: @image}, audio: {source: @audio}}\n"
    text = experts + "modality: masked\ndtype: float32\ntext: {method: ties}\n"
    text += "streams: {storage: dense}\n"
    tensors = load_file(build(tiny, tmp_path / "out", text) / "model.safetensors")
    name = "layers.0.mlp.gate_proj"
    base = load_file(tiny / "base/model.safetensors")[f"model.{name}.weight"]
    factors = load_file(tiny / "audio/adapter/adapter_model.safetensors")
    path = f"base_model.model.model.{name}"
    own = 2.0 * factors[f"{path}.lora_B.weight"] @ factors[f"{path}.lora_A.weight"]
    merged = tensors[f"model.language_model.{name}.weight"] - base
    kept = (own.abs() > (merged - own).abs()) & (own * merged > 0)
    assert 0 < int(kept.sum()) < kept.numel()
    stream = tensors[f"model.language_model.{name}.streams.audio.weight"]
    torch.testing.assert_close(stream, base + kept * merged, atol=1e-6, rtol=1e-6)
