"""`omnicompose merge` on tiny models written by the real classes: true results that load again."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import CLIPVisionConfig, LlavaConfig, LlavaForConditionalGeneration

from omnicompose.composer import ComposeOptions
from omnicompose.errors import PlanError, RecipeError
from omnicompose.export import verify
from omnicompose.merger import merge


def run(tmp_path: Path, text: str, **options: object) -> Path:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(text)
    out = tmp_path / "out"
    merge(recipe, out, ComposeOptions(**options))
    return out


def small_text(**changes: object) -> dict[str, object]:
    return {
        "vocab_size": 64,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
    } | changes


def small_vision(**changes: object) -> dict[str, object]:
    return {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 8,
    } | changes


def llava() -> torch.nn.Module:
    return LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=CLIPVisionConfig(**small_vision()),
            text_config=transformers.LlamaConfig(**small_text()),
            image_token_id=60,
        )
    )


def internvl() -> torch.nn.Module:
    config = transformers.InternVLConfig(
        vision_config=small_vision(image_size=[16, 16], patch_size=[8, 8]),
        text_config=transformers.Qwen2Config(**small_text()).to_dict(),
        image_token_id=60,
    )
    return transformers.InternVLForConditionalGeneration(config)


def qwen2_audio() -> torch.nn.Module:
    config = transformers.Qwen2AudioConfig(
        audio_config={
            "d_model": 16,
            "encoder_layers": 1,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 24,
            "num_mel_bins": 8,
            "max_source_positions": 10,
        },
        text_config=transformers.Qwen2Config(**small_text()).to_dict(),
        audio_token_id=60,
    )
    return transformers.Qwen2AudioForConditionalGeneration(config)


def qwen2_5_vl() -> torch.nn.Module:
    config = transformers.Qwen2_5_VLConfig(
        text_config=small_text(
            rope_parameters={
                "rope_type": "default",
                "rope_theta": 1e4,
                "mrope_section": [2, 1, 1],
            }
        ),
        vision_config={
            "depth": 1,
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_heads": 2,
            "out_hidden_size": 16,
            "patch_size": 8,
            "fullatt_block_indexes": [0],
        },
        image_token_id=60,
        video_token_id=61,
        vision_start_token_id=62,
        vision_end_token_id=63,
    )
    return transformers.Qwen2_5_VLForConditionalGeneration(config)


@pytest.mark.parametrize("make", [llava, internvl, qwen2_audio, qwen2_5_vl])
def test_two_fine_tunes_become_their_mean_on_every_tensor(make: object, tmp_path: Path) -> None:
    for seed in (0, 1):
        torch.manual_seed(seed)
        make().save_pretrained(tmp_path / f"m{seed}")
    out = run(tmp_path, "models: [{source: m0}, {source: m1}]\nmethod: linear\n")
    first, second, merged = (
        load_file(tmp_path / place / "model.safetensors") for place in ("m0", "m1", "out")
    )
    assert list(merged) == list(first)
    for name, tensor in merged.items():
        torch.testing.assert_close(tensor, (first[name] + second[name]) / 2, atol=1e-7, rtol=1e-6)
    config = json.loads((out / "config.json").read_text())
    model_class = getattr(transformers, config["architectures"][0])
    _, info = model_class.from_pretrained(out, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert verify(out) == []


def test_a_lora_counts_as_its_product(tiny: Path, tmp_path: Path) -> None:
    out = run(
        tmp_path,
        f"base: {tiny}/base\nmodels: [{{source: {tiny}/base+{tiny}/audio/adapter, weight: 1}}]\n"
        "method: task_arithmetic\nparameters: {scale: 0.5}\n",
    )
    name = "layers.0.self_attn.q_proj"
    base = load_file(tiny / "base/model.safetensors")[f"model.{name}.weight"]
    factors = load_file(tiny / "audio/adapter/adapter_model.safetensors")
    key = f"base_model.model.model.{name}"
    delta = 2.0 * factors[f"{key}.lora_B.weight"] @ factors[f"{key}.lora_A.weight"]
    merged = load_file(out / "model.safetensors")[f"model.{name}.weight"]
    torch.testing.assert_close(merged, base + 0.5 * delta, atol=1e-6, rtol=1e-6)
    assert (out / "tokenizer.json").is_file()


def test_a_plain_language_model_merges_into_a_multimodal_backbone(
    tiny: Path, tmp_path: Path
) -> None:
    """The peer matches no name here and reports success (specs/peers.md 7)."""
    import tiny_experts

    tiny_experts.write_base(tmp_path / "tuned", seed=5)
    out = run(
        tmp_path,
        f"base: {tiny}/llava\nmodels: [{{source: tuned, weight: 0.5}}]\nmethod: task_arithmetic\n",
    )
    host = load_file(tiny / "llava/model.safetensors")
    tuned = load_file(tmp_path / "tuned/model.safetensors")
    merged = load_file(out / "model.safetensors")
    name = "layers.1.mlp.up_proj.weight"
    expected = (host[f"language_model.model.{name}"] + tuned[f"model.{name}"]) / 2
    torch.testing.assert_close(merged[f"language_model.model.{name}"], expected)
    for kept in (key for key in host if not key.startswith("language_model.")):
        assert torch.equal(merged[kept], host[kept]), kept


def test_raw_files_merge_by_name(tmp_path: Path) -> None:
    for place, value in (("a", 1.0), ("b", 3.0)):
        tensors = {"x.weight": torch.full((2, 3), value), "steps": torch.tensor([4])}
        save_file(tensors, tmp_path / f"{place}.safetensors")
    out = run(
        tmp_path,
        "layout: raw\nmodels: [{source: a.safetensors}, {source: b.safetensors, weight: 1.5}]\n",
    )
    merged = load_file(out / "model.safetensors")
    assert torch.equal(merged["x.weight"], torch.full((2, 3), (0.5 * 1 + 1.5 * 3) / 2))
    assert torch.equal(merged["steps"], torch.tensor([4]))
    assert sorted(path.name for path in out.iterdir()) == ["manifest.json", "model.safetensors"]


def test_a_dtype_is_written_and_said(tiny: Path, tmp_path: Path) -> None:
    out = run(tmp_path, f"models: [{{source: {tiny}/base}}]\ndtype: bfloat16\n")
    assert json.loads((out / "config.json").read_text())["dtype"] == "bfloat16"
    tensors = load_file(out / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}


def test_models_that_do_not_fit_are_refused_by_tensor(tiny: Path, tmp_path: Path) -> None:
    import tiny_experts

    tiny_experts.write_base(tmp_path / "wide", intermediate_size=40)
    text = f"models: [{{source: {tiny}/base}}, {{source: wide}}]\n"
    with pytest.raises(PlanError, match=r"wide: .*mlp.* has shape \[.*40.*\], .* has \[.*48.*\]"):
        run(tmp_path, text)
    tiny_experts.write_base(tmp_path / "deep", num_hidden_layers=3)
    with pytest.raises(PlanError, match=r"deep: has 'model\.layers\.2\..*', which .* lacks"):
        run(tmp_path, f"models: [{{source: {tiny}/base}}, {{source: deep}}]\n")
    with pytest.raises(PlanError, match=r"has 'vision_tower.*which .*base lacks"):
        run(tmp_path, f"base: {tiny}/base\nmodels: [{{source: {tiny}/llava}}]\n")
    assert not (tmp_path / "out").exists()


def test_a_method_that_needs_a_base_says_so(tiny: Path, tmp_path: Path) -> None:
    text = f"models: [{{source: {tiny}/base}}, {{source: {tiny}/base, name: b}}]\nmethod: ties\n"
    with pytest.raises(PlanError, match="method 'ties' works on distances from a common base"):
        run(tmp_path, text)


def test_precisions_that_differ_must_be_settled(tiny: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny / "base", tmp_path / "half")
    file = tmp_path / "half/model.safetensors"
    tensors = {name: tensor.half() for name, tensor in load_file(file).items()}
    save_file(tensors, file, metadata={"format": "pt"})
    text = f"models: [{{source: {tiny}/base}}, {{source: half}}]\n"
    with pytest.raises(PlanError, match=r"stored in different precisions .*float16"):
        run(tmp_path, text)
    assert run(tmp_path, text + "dtype: float32\n").is_dir()


def test_a_compose_recipe_is_not_a_merge_recipe(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError):
        run(tmp_path, f"base: {tiny}/base\nexperts: {{image: {{source: {tiny}/image}}}}\n")
