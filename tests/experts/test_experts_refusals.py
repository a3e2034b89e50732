"""What cannot be opened is refused by name, with what to do, before anything heavy."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from omnicompose.errors import SourceError
from omnicompose.experts.checkpoint import open_checkpoint


def write(folder: Path, config: dict[str, object], **tensors: torch.Tensor) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    if tensors:
        named = {name.replace("__", "."): tensor for name, tensor in tensors.items()}
        save_file(named, folder / "model.safetensors")
    return folder


LLAMA: dict[str, object] = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}


@pytest.mark.parametrize("method", ["gptq", "awq", "fp8", "compressed-tensors", "bitsandbytes"])
def test_quantised_weights_by_configuration(tmp_path: Path, method: str) -> None:
    config = LLAMA | {"quantization_config": {"quant_method": method}}
    with pytest.raises(SourceError, match=rf"quantised \({method}\)\. Merging needs weights in"):
        open_checkpoint("x", write(tmp_path, config))


def test_quantised_weights_by_their_tensors(tmp_path: Path) -> None:
    name = "model__layers__0__mlp__up_proj__qweight"
    write(tmp_path, LLAMA, **{name: torch.zeros(2, dtype=torch.int32)})
    with pytest.raises(SourceError, match=r"'model.layers.0.mlp.up_proj.qweight' \(int32\) is qua"):
        open_checkpoint("x", tmp_path)
    write(tmp_path, LLAMA, model__norm__weight=torch.zeros(2).to(torch.float8_e4m3fn))
    with pytest.raises(SourceError, match=r"\(float8_e4m3fn\) is quantised"):
        open_checkpoint("x", tmp_path)


def test_gguf(tmp_path: Path) -> None:
    write(tmp_path, LLAMA)
    (tmp_path / "model-q4.gguf").write_bytes(b"GGUF")
    with pytest.raises(SourceError, match=r"model-q4\.gguf holds quantised weights \(GGUF\)"):
        open_checkpoint("x", tmp_path)


@pytest.mark.parametrize(
    ("architecture", "reason"),
    [
        ("MllamaForConditionalGeneration", "cross-attention"),
        ("Qwen3VLForConditionalGeneration", "deepstack"),
        ("Qwen3OmniMoeThinkerForConditionalGeneration", "mixture of experts"),
        ("Gemma3ForConditionalGeneration", "both directions inside an image block"),
        ("VoxtralRealtimeForConditionalGeneration", "words it is writing"),
        ("OmniComposeForConditionalGeneration", "a composite already"),
    ],
)
def test_architectures_that_do_not_compose(tmp_path: Path, architecture: str, reason: str) -> None:
    write(tmp_path, {"architectures": [architecture]})
    with pytest.raises(SourceError, match=f"{architecture} cannot be composed: .*{reason}"):
        open_checkpoint("x", tmp_path)


def test_code_that_comes_with_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    config: dict[str, object] = {"auto_map": {"AutoModel": "bad.Model"}}
    (tmp_path / "bad.py").write_text("raise SystemExit('ran')")
    write(tmp_path, config | {"architectures": ["InternVLChatModel"]})
    with pytest.raises(SourceError, match=r"never run\. Take the checkpoint's conversion to Int"):
        open_checkpoint("x", tmp_path)
    write(tmp_path, config | {"architectures": ["NovelModel"]})
    with pytest.raises(SourceError, match="code comes with the checkpoint, which is never run"):
        open_checkpoint("x", tmp_path)


def test_an_unknown_family_says_how_to_add_one(tmp_path: Path) -> None:
    write(tmp_path, {"architectures": ["NovelForConditionalGeneration"]})
    with pytest.raises(SourceError, match=r"one entry in omnicompose/families/entries\.py and"):
        open_checkpoint("x", tmp_path)


def test_a_missing_connector(tmp_path: Path) -> None:
    config: dict[str, object] = {
        "model_type": "llava",
        "architectures": ["LlavaForConditionalGeneration"],
    }
    write(tmp_path, config, language_model__model__norm__weight=torch.zeros(4))
    with pytest.raises(SourceError, match="no tensor of the image connector"):
        open_checkpoint("x", tmp_path).connector("image")
