"""A tiny omni-modal composite with random weights, its processor, some media and questions."""

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPImageProcessor,
    LlamaConfig,
    LlavaOnevisionVideoProcessor,
    PreTrainedTokenizerFast,
    WhisperFeatureExtractor,
)

from omnicompose.modeling import (
    OmniComposeConfig,
    OmniComposeForConditionalGeneration,
    OmniComposeProcessor,
)

WIDTH = 16
PLACEHOLDERS = ["<image>", "<video>", "<audio>"]
TEMPLATE = """\
{%- set media = {'image': '<image>', 'video': '<video>', 'audio': '<audio>'} -%}
{{- bos_token -}}
{%- for message in messages -%}
{{- '<|' + message['role'] + '|>' -}}
{%- if message['content'] is string -%}{{- message['content'] -}}{%- else -%}
{%- for item in message['content'] -%}
{{- item['text'] if item['type'] == 'text' else media[item['type']] -}}
{%- endfor -%}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}
"""
VISION = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 8,
    "patch_size": 4,
}
SOUND = {
    "d_model": 16,
    "encoder_layers": 1,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "num_mel_bins": 8,
    "max_source_positions": 10,
}
ROLES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def modality(token_id: int, encoder: dict, connector: dict, **options) -> dict:
    names = {3: "<image>", 4: "<video>", 5: "<audio>"}
    entry = {"token": names[token_id], "token_id": token_id}
    return {**entry, "encoder": encoder, "connector": connector, **options}


def all_modalities(streams: bool = True) -> dict[str, dict]:
    factored = {"form": "factored", "rank": 2, "roles": ROLES} if streams else None
    dense = {"form": "dense", "roles": ROLES, "layers": [1]} if streams else None
    mlp = {"type": "mlp", "config": {"input_size": 16, "output_size": WIDTH}}
    pool = {"input_size": 16, "output_size": WIDTH, "num_queries": 2, "hidden_size": 8}
    return {
        "image": modality(
            3,
            {"type": "clip_vision", "config": {"vision_config": VISION}},
            mlp,
            stream=factored,
            num_prefix_tokens=2,
            num_suffix_tokens=1,
        ),
        "audio": modality(
            5,
            {"type": "whisper", "config": {"audio_config": SOUND}},
            {"type": "attention_pool", "config": pool},
            stream=dense,
        ),
        "video": modality(
            4,
            {"type": "conv_video", "config": {"channels": [4, 8], "feature_size": 16}},
            mlp,
            stream=factored,
        ),
    }


def tiny_config(**options) -> OmniComposeConfig:
    options.setdefault("modalities", all_modalities())
    text = LlamaConfig(
        vocab_size=300,
        hidden_size=WIDTH,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        initializer_range=0.3,
        tie_word_embeddings=options.pop("tied", False),
    )
    return OmniComposeConfig(text_config=text, **options)


def make_model(config: OmniComposeConfig, seed: int = 0) -> OmniComposeForConditionalGeneration:
    torch.manual_seed(seed)
    model = OmniComposeForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".streams." in name or name.endswith(("_prefix", "_suffix")):
                parameter.normal_(std=0.3)
    # Nothing is said to end, so that every comparison is of as many tokens as asked for.
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    model.generation_config.suppress_tokens = config.placeholder_ids
    return model


def make_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<pad>", "<bos>", "<eos>", *PLACEHOLDERS, "<|user|>", "<|assistant|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=290,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["what is in the picture and the sound"], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        additional_special_tokens=[*PLACEHOLDERS, "<|user|>", "<|assistant|>"],
        chat_template=TEMPLATE,
    )


def make_processor(modalities: dict | None = None) -> OmniComposeProcessor:
    sides = {"height": 8, "width": 8}
    return OmniComposeProcessor(
        image_processor=CLIPImageProcessor(size={"shortest_edge": 8}, crop_size=sides),
        feature_extractor=WhisperFeatureExtractor(
            feature_size=8, sampling_rate=16000, chunk_length=1, n_fft=400, hop_length=800
        ),
        video_processor=LlavaOnevisionVideoProcessor(
            size=sides, do_sample_frames=True, num_frames=3
        ),
        tokenizer=make_tokenizer(),
        modalities=all_modalities() if modalities is None else modalities,
    )


def picture(seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def sound(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=16000).astype(np.float32)


def clip(seed: int, num_frames: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (num_frames, 8, 8, 3), dtype=np.uint8)


EVERYTHING = (("image", 1), "what is", ("audio", 2), ("video", 3), "and", ("image", 4), "?")
MIXED = [
    EVERYTHING,
    ("what is in the picture",),
    (("audio", 5), "what is it"),
    (("video", 6), ("video", 7), "what"),
    ("the sound", ("image", 8), "and", ("audio", 9)),
    (("image", 1), "?"),
    (("audio", 2), ("image", 4), ("video", 3), ("audio", 2), "is it the picture and the sound"),
    ("and", ("video", 3)),
]
