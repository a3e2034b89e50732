"""ModelCompose's published folders and encoders in their real shapes, as headers alone.

Sizes: specification of ModelCompose, sections 1.3, 3.1 and 3.3; what it leaves out of BEATs are the
defaults of transformers' WavLM, whose layers have the same parts. Names of tensors: those that the
published code wrote into tests/goldens/e2e.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import torch
import transformers as hf
from real_shapes import make_snapshot, write_headers

from omnicompose.connectors import make_connector
from omnicompose.encoders import make_encoder

Shapes = dict[str, tuple[int, ...]]
REPOSITORY = "Adu2021/ModelCompose"
RANK, ALPHA, PREFIX = 128, 256, 5
LLAMA = hf.LlamaConfig()
WIDTH = LLAMA.hidden_size
HIDDEN = {"vision": 1024, "audio": 768, "video": 1024, "point": 384}
CLIP = hf.CLIPVisionConfig(
    hidden_size=1024,
    intermediate_size=4096,
    num_hidden_layers=24,
    num_attention_heads=16,
    projection_dim=768,
    patch_size=14,
).to_dict()
WAVLM = hf.WavLMConfig()
BEATS = {
    "embed_dim": WAVLM.conv_dim[-1],
    "encoder_embed_dim": 768,
    "encoder_ffn_embed_dim": WAVLM.intermediate_size,
    "encoder_layers": 12,
    "encoder_attention_heads": WAVLM.num_attention_heads,
    "conv_pos": WAVLM.num_conv_pos_embeddings,
    "conv_pos_groups": WAVLM.num_conv_pos_embedding_groups,
    "num_buckets": WAVLM.num_buckets,
    "max_distance": WAVLM.max_bucket_distance,
    "input_patch_size": 16,
    "activation_fn": "gelu",
    "deep_norm": True,
    "layer_norm_first": False,
    "conv_bias": False,
    "relative_position_embedding": True,
    "gru_rel_pos": True,
}
POINT_BERT = {
    "hidden_size": 384,
    "num_layers": 12,
    "num_heads": 6,
    "num_groups": 512,
    "group_size": 32,
    "group_width": 256,  # not in the specification
}
QFORMER = {
    "input_size": 768,
    "output_size": WIDTH,
    "num_queries": 32,
    "num_layers": 2,
    "max_positions": 1024,
}
QFORMER_NAMES = (
    (r"query_tokens", "audio_query_tokens"),
    (r"position_embedding\.(.+)", r"audio_position_embedding.\1"),
    (r"projection\.(.+)", r"audio_llama_proj.\1"),
    (r"qformer\.layernorm\.(.+)", r"audio_Qformer.bert.embeddings.LayerNorm.\1"),
    (r"qformer\.(.+attention)\.attention\.(.+)", r"audio_Qformer.bert.\1.self.\2"),
    (r"qformer\.(.+)", r"audio_Qformer.bert.\1"),
)
CLIP_NAMES = (
    (r"temporal\.(\d+)\.(.+)", r"vision_model.encoder.layers.\1.\2"),
    (r"tower\.(?:vision_model\.)?(.+)", r"vision_model.\1"),
)


def adapter(name: str) -> Shapes:
    """The factors of one adapter on all linear maps of a Llama."""
    inner = LLAMA.intermediate_size
    maps = {f"self_attn.{role}_proj": (WIDTH, WIDTH) for role in "qkvo"}
    maps |= {"mlp.gate_proj": (inner, WIDTH), "mlp.up_proj": (inner, WIDTH)}
    maps["mlp.down_proj"] = (WIDTH, inner)
    factors: Shapes = {}
    for layer in range(LLAMA.num_hidden_layers):
        for path, (rows, columns) in maps.items():
            start = f"model.layers.{layer}.{path}"
            factors[f"{start}.lora_A.{name}.weight"] = (RANK, columns)
            factors[f"{start}.lora_B.{name}.weight"] = (rows, RANK)
    return factors


def projector(theirs: str) -> Shapes:
    """The connector of one modality, by its names on disk."""
    if theirs == "audio":
        own = _shapes(make_connector, {"type": "qformer", "config": QFORMER}, QFORMER_NAMES)
    else:
        sizes = {"0": (WIDTH, HIDDEN[theirs]), "2": (WIDTH, WIDTH)}
        own = {f"{place}.weight": shape for place, shape in sizes.items()}
        own |= {f"{place}.bias": (WIDTH,) for place in sizes}
    return {f"model.modal_projectors.{theirs}.{name}": shape for name, shape in own.items()}


def write_experts(cache: Path) -> None:
    """All eight folders as they would lie in the hub's cache."""
    snapshot = make_snapshot(cache, REPOSITORY)
    for theirs in HIDDEN:
        for kind in ("damc", "naivemc"):
            _write_expert(snapshot / f"multimodal-vicuna-7b-v1.5-{theirs}-{kind}", theirs, kind)


def _write_expert(folder: Path, theirs: str, kind: str) -> None:
    folder.mkdir()
    is_damc, infix = kind == "damc", "" if theirs == "vision" else f"{theirs}_"
    count = PREFIX if is_damc else 0
    config = LLAMA.to_dict() | {
        "model_type": "multimodal",
        "lora_strategy": "modal+language" if is_damc else "same",
        "lora_r": RANK,
        "lora_alpha": ALPHA,
        f"mm_{theirs}_encoder": f"/the/authors/{theirs}",
        f"mm_{infix}projector_type": "qformer_32N_2L" if theirs == "audio" else "mlp2x_gelu",
        f"mm_{infix}hidden_size": HIDDEN[theirs],
        f"mm_{theirs}_select_layer": -2,
        "local_prefix_tokens": count,
        "local_suffix_tokens": count,
    }
    (folder / "config.json").write_text(json.dumps(config))
    shapes = adapter("default") | projector(theirs)
    if is_damc:
        shapes |= adapter(theirs)
        shapes |= {f"{end}_tokens.{theirs}": (1, count, WIDTH) for end in ("prefix", "suffix")}
    write_headers(folder / "adapter_model.safetensors", shapes)


def write_encoders(cache: Path, beside: Path) -> None:
    """CLIP and LanguageBind in the hub's cache, BEATs and Point-BERT as files beside a recipe."""
    for name, side, more in (
        ("openai/clip-vit-large-patch14-336", 336, {}),
        ("LanguageBind/LanguageBind_Video_merge", 224, {"add_time_attn": True, "num_frames": 8}),
    ):
        folder = make_snapshot(cache, name)
        vision = CLIP | {"image_size": side}
        (folder / "config.json").write_text(json.dumps({"vision_config": vision | more}))
        kind = "languagebind_video" if more else "clip_vision"
        described = {"type": kind, "config": {"vision_config": vision}}
        write_headers(folder / "model.safetensors", _shapes(make_encoder, described, CLIP_NAMES))
    from omnicompose.experts.modelcompose_encoders import BEATS_FIELDS

    settings = {ours: BEATS[theirs] for ours, theirs in BEATS_FIELDS.items()}
    beats = beside / "BEATs_iter3_plus_AS2M.safetensors"
    write_headers(beats, _shapes(make_encoder, {"type": "beats", "config": settings}, ()))
    beats.with_suffix(".cfg.json").write_text(json.dumps(BEATS))
    described = {"type": "point_bert", "config": POINT_BERT}
    write_headers(beside / "point_bert_v1.2.safetensors", _shapes(make_encoder, described, ()))


def _shapes(
    make: object, description: Mapping[str, object], names: tuple[tuple[str, str], ...]
) -> Shapes:
    """A module's tensors by their names on disk."""
    with torch.device("meta"):
        module = make(description)
    shapes: Shapes = {}
    for own, tensor in module.state_dict().items():
        pattern, name = next((pair for pair in names if re.fullmatch(pair[0], own)), (None, own))
        shapes[re.sub(pattern, name, own) if pattern else own] = tuple(tensor.shape)
    return shapes
