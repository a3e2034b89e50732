"""Tiny experts that hear, and one that hears and sees."""

import numpy as np
import torch
import transformers as hf
from families_seeing import qwen_clips, qwen_pictures, qwen_vision
from families_tiny import MROPE, WIDTH, Family, whisper

AUDIO_ENCODER = {
    "num_mel_bins": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "hidden_size": 16,
    "max_source_positions": 50,
}
QWEN_AUDIO = {
    "num_mel_bins": 8,
    "encoder_layers": 1,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "d_model": 16,
    "max_source_positions": 50,
}
OMNI_TOKENS = (
    "<|vision_bos|>",
    "<|vision_eos|>",
    "<|audio_bos|>",
    "<|audio_eos|>",
    "<|IMAGE|>",
    "<|VIDEO|>",
    "<|AUDIO|>",
)
OMNI_NAMES = {
    "vision_bos_token": "<|vision_bos|>",
    "vision_eos_token": "<|vision_eos|>",
    "audio_bos_token": "<|audio_bos|>",
    "audio_eos_token": "<|audio_eos|>",
    "image_token": "<|IMAGE|>",
    "video_token": "<|VIDEO|>",
    "audio_token": "<|AUDIO|>",
}
CHUNK = 375
"""Embeddings of 30 s in Voxtral: 12.5 a second."""


def ask_voxtral(
    processor: hf.VoxtralProcessor, text: str, sound: np.ndarray
) -> dict[str, torch.Tensor]:
    """Its own features; tokens as mistral-common 1.13.1 was seen to write one chunk."""
    settings = dict(processor.audio_kwargs)
    features = processor._retrieve_input_features([sound], **settings)
    written = text.replace("[AUDIO]", "[BEGIN_AUDIO]" + "[AUDIO]" * CHUNK)
    return {**processor.tokenizer(written, return_tensors="pt"), "input_features": features}


def as_llama(mistral: hf.PreTrainedConfig) -> dict[str, object]:
    """Mistral's language model as Voxtral's class has it: Llama's, weight by weight."""
    kept = {name: value for name, value in mistral.to_dict().items() if name != "sliding_window"}
    return kept | {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}


HEARING = (
    Family(
        name="Qwen2Audio",
        language="qwen2",
        tokens=("<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>"),
        config=lambda ids, text: hf.Qwen2AudioConfig(
            audio_config=QWEN_AUDIO, text_config=text, audio_token_index=ids("<|AUDIO|>")
        ),
        processor=lambda tokenizer: hf.Qwen2AudioProcessor(whisper(), tokenizer),
        prompts={"audio": "<|audio_bos|><|AUDIO|><|audio_eos|>"},
    ),
    Family(
        name="AudioFlamingo3",
        language="qwen2",
        tokens=("<sound>",),
        config=lambda ids, text: hf.AudioFlamingo3Config(
            audio_config=AUDIO_ENCODER, text_config=text, audio_token_id=ids("<sound>")
        ),
        processor=lambda tokenizer: hf.AudioFlamingo3Processor(whisper(), tokenizer),
        prompts={"audio": "<sound>"},
    ),
    Family(
        name="MusicFlamingo",
        language="qwen2",
        tokens=("<sound>", "<|sound_bos|>", "<|sound_eos|>"),
        config=lambda ids, text: hf.MusicFlamingoConfig(
            audio_config=AUDIO_ENCODER | {"model_type": "audioflamingo3_encoder"},
            text_config=text,
            audio_token_id=ids("<sound>"),
            audio_bos_token_id=ids("<|sound_bos|>"),
            audio_eos_token_id=ids("<|sound_eos|>"),
            rope_parameters={"rope_type": "default", "rope_theta": 100},
        ),
        processor=lambda tokenizer: hf.MusicFlamingoProcessor(whisper(), tokenizer),
        prompts={"audio": "<sound>"},
    ),
    Family(
        name="Voxtral",
        language="llama",
        tokens=("[AUDIO]", "[BEGIN_AUDIO]"),
        config=lambda ids, text: hf.VoxtralConfig(
            audio_config=AUDIO_ENCODER
            | {"model_type": "voxtral_encoder", "intermediate_size": 64}
            | {"max_source_positions": 1500},
            text_config=text.to_dict(),
            audio_token_id=ids("[AUDIO]"),
            tie_word_embeddings=False,
        ),
        processor=lambda tokenizer: hf.VoxtralProcessor(whisper(), tokenizer),
        prompts={"audio": "[AUDIO]"},
        ask=ask_voxtral,
    ),
    Family(
        name="VoxtralSmall",
        kind="Voxtral",
        language="mistral",
        tokens=("[AUDIO]", "[BEGIN_AUDIO]"),
        config=lambda ids, text: hf.VoxtralConfig(
            audio_config=AUDIO_ENCODER
            | {"model_type": "voxtral_encoder", "intermediate_size": 64}
            | {"max_source_positions": 1500},
            text_config=as_llama(text),
            audio_token_id=ids("[AUDIO]"),
            tie_word_embeddings=False,
        ),
        processor=lambda tokenizer: hf.VoxtralProcessor(whisper(), tokenizer),
        prompts={"audio": "[AUDIO]"},
        ask=ask_voxtral,
    ),
    Family(
        name="GraniteSpeech",
        language="granite",
        tokens=("<|audio|>",),
        language_changes={"logits_scaling": 8.0, "embedding_multiplier": 12.0},
        config=lambda ids, text: hf.GraniteSpeechConfig(
            text_config=text,
            encoder_config={
                "input_dim": 160,
                "num_layers": 2,
                "hidden_dim": 16,
                "num_heads": 2,
                "dim_head": 8,
                "output_dim": 5,
                "context_size": 20,
                "max_pos_emb": 32,
                "dropout": 0.0,
            },
            projector_config={
                "model_type": "blip_2_qformer",
                "hidden_size": 16,
                "encoder_hidden_size": 16,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "intermediate_size": 32,
                "cross_attention_frequency": 1,
            },
            audio_token_index=ids("<|audio|>"),
            has_lora_adapter=False,
            tie_word_embeddings=False,
        ),
        processor=lambda tokenizer: hf.GraniteSpeechProcessor(
            hf.GraniteSpeechFeatureExtractor(), tokenizer
        ),
        prompts={"audio": "<|audio|>"},
    ),
    Family(
        name="Qwen2_5OmniThinker",
        language="qwen2",
        tokens=OMNI_TOKENS,
        named=OMNI_NAMES,
        config=lambda ids, text: hf.Qwen2_5OmniThinkerConfig(
            text_config=text.to_dict()
            | {"model_type": "qwen2_5_omni_text", "rope_parameters": MROPE},
            vision_config=qwen_vision(
                hidden_size=16,
                intermediate_size=32,
                out_hidden_size=WIDTH,
                window_size=16,
                fullatt_block_indexes=[1],
            ),
            audio_config=QWEN_AUDIO | {"n_window": 10, "output_dim": WIDTH},
            image_token_index=ids("<|IMAGE|>"),
            video_token_index=ids("<|VIDEO|>"),
            audio_token_index=ids("<|AUDIO|>"),
            audio_start_token_id=ids("<|audio_bos|>"),
            audio_end_token_id=ids("<|audio_eos|>"),
            vision_start_token_id=ids("<|vision_bos|>"),
            vision_end_token_id=ids("<|vision_eos|>"),
            tie_word_embeddings=False,
        ),
        processor=lambda tokenizer: hf.Qwen2_5OmniProcessor(
            qwen_pictures(), qwen_clips(), whisper(), tokenizer
        ),
        prompts={
            "image": "<|vision_bos|><|IMAGE|><|vision_eos|>",
            "video": "<|vision_bos|><|VIDEO|><|vision_eos|>",
            "audio": "<|audio_bos|><|AUDIO|><|audio_eos|>",
        },
    ),
)
