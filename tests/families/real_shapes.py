"""Published models in their real shapes, as folders of headers: the weights are holes in files.

Sizes are the defaults of transformers' own configuration classes, which describe the published 7B
models, and specs/environment.md 3 for the groups' language models. They lie in a hub cache as if
downloaded, so that the shipped recipes open by hub id without a network.
"""

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
import transformers as hf
from families_tiny import make_tokenizer
from transformers import PreTrainedModel

QWEN = {
    "hidden_size": 3584,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "intermediate_size": 18944,
    "vocab_size": 152064,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
}
VICUNA = {"vocab_size": 32064}
"""LlamaConfig's defaults are the 7B model's; conversions have 64 more rows."""
MROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [16, 24, 24]}


def _llama(**changes: object) -> hf.LlamaConfig:
    return hf.LlamaConfig(**changes)


def _clip(side: int) -> hf.CLIPVisionConfig:
    return hf.CLIPVisionConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
        projection_dim=768,
        image_size=side,
        patch_size=14,
    )


Made = tuple[type[PreTrainedModel], hf.PreTrainedConfig]
MODELS: Mapping[str, Callable[[], Made]] = {
    "lmsys/vicuna-7b-v1.5": lambda: (hf.LlamaForCausalLM, _llama()),
    "llava-hf/llava-1.5-7b-hf": lambda: (
        hf.LlavaForConditionalGeneration,
        hf.LlavaConfig(vision_config=_clip(336), text_config=_llama(**VICUNA)),
    ),
    "LanguageBind/Video-LLaVA-7B-hf": lambda: (
        hf.VideoLlavaForConditionalGeneration,
        hf.VideoLlavaConfig(vision_config=_clip(224), text_config=_llama(**VICUNA)),
    ),
    "llava-hf/llava-v1.6-vicuna-7b-hf": lambda: (
        hf.LlavaNextForConditionalGeneration,
        hf.LlavaNextConfig(vision_config=_clip(336), text_config=_llama(**VICUNA)),
    ),
    "llava-hf/LLaVA-NeXT-Video-7B-hf": lambda: (
        hf.LlavaNextVideoForConditionalGeneration,
        hf.LlavaNextVideoConfig(vision_config=_clip(336), text_config=_llama(**VICUNA)),
    ),
    "Qwen/Qwen2.5-7B": lambda: (hf.Qwen2ForCausalLM, hf.Qwen2Config(**QWEN)),
    "Qwen/Qwen2.5-7B-Instruct": lambda: (hf.Qwen2ForCausalLM, hf.Qwen2Config(**QWEN)),
    "OpenGVLab/InternVL3-8B-hf": lambda: (
        hf.InternVLForConditionalGeneration,
        hf.InternVLConfig(text_config=hf.Qwen2Config(**QWEN), tie_word_embeddings=False),
    ),
    "lkhl/VideoLLaMA3-7B-Image-HF": lambda: (
        hf.VideoLlama3ForConditionalGeneration,
        hf.VideoLlama3Config(text_config=hf.Qwen2Config(**QWEN)),
    ),
    "nvidia/audio-flamingo-3-hf": lambda: (
        hf.AudioFlamingo3ForConditionalGeneration,
        hf.AudioFlamingo3Config(text_config=hf.Qwen2Config(**QWEN)),
    ),
    "Qwen/Qwen2.5-VL-7B-Instruct": lambda: (
        hf.Qwen2_5_VLForConditionalGeneration,
        hf.Qwen2_5_VLConfig(
            text_config={"model_type": "qwen2_5_vl_text", "rope_parameters": MROPE, **QWEN},
            tie_word_embeddings=False,
        ),
    ),
}


def write_headers(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """A safetensors file in bf16 with its header only; the rest is a hole."""
    header: dict[str, object] = {}
    at = 0
    for name, shape in shapes.items():
        size = 2 * torch.Size(shape).numel()
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + at)


def make_snapshot(cache: Path, name: str) -> Path:
    """An empty folder where the hub's cache keeps a repository."""
    repository = cache / f"models--{name.replace('/', '--')}"
    folder = repository / "snapshots" / ("0" * 40)
    folder.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    return folder


def write_cached(cache: Path, name: str) -> Path:
    """One published model as it would lie in the hub's cache."""
    model_class, config = MODELS[name]()
    with torch.device("meta"):
        model = model_class(config)
    folder = make_snapshot(cache, name)
    config.architectures = [model_class.__name__]
    config.save_pretrained(folder)
    tied = set(model.all_tied_weights_keys)
    shapes = {key: tuple(t.shape) for key, t in model.state_dict().items() if key not in tied}
    write_headers(folder / "model.safetensors", shapes)
    make_tokenizer().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text("{}")
    return folder
