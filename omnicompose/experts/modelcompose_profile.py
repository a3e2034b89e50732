"""ModelCompose's preprocessing and prompts as data: the profile `modelcompose`.

What the published code does at random when it answers is fixed here: clips are never mirrored, and
sampling of point clouds begins at their first point (see omnicompose/encoders/point_bert.py).
Numbers: specification of ModelCompose, section 3.4.
"""

from collections.abc import Mapping

AUDIO: Mapping[str, object] = {
    "feature_extractor_type": "KaldiFbankFeatureExtractor",
    "sampling_rate": 16000,
    "num_mel_bins": 128,
    "frame_length_ms": 25.0,
    "frame_shift_ms": 10.0,
    "num_frames": 1024,
    "mean": 15.41663,
    "deviation": 6.55582,
    "resampler": "sinc",
}
"""The first 10.24 s of a sound, silence behind shorter ones, which is heard as sound."""

CLIP_STATISTICS: Mapping[str, object] = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}


def image(side: int, *, pad: bool) -> dict[str, object]:
    """Pictures padded to squares with the mean colour, then made `side` pixels wide and high."""
    return {
        "image_processor_type": "PaddedImageProcessor",
        "do_pad": pad,
        "size": {"shortest_edge": side},
        "crop_size": {"height": side, "width": side},
        **CLIP_STATISTICS,
    }


def video(side: int, num_frames: int) -> dict[str, object]:
    """Equally spaced frames of a clip as squares of `side` pixels."""
    return {
        "video_processor_type": "LanguageBindVideoProcessor",
        "num_frames": num_frames,
        "size": {"shortest_edge": side},
        "crop_size": {"height": side, "width": side},
        **CLIP_STATISTICS,
    }


def _conversation(system: str) -> str:
    """Roles, blanks between and `</s>` behind every answer; a system message replaces `system`."""
    return (
        "{%- if messages[0]['role'] == 'system' -%}"
        "{%- set system = messages[0]['content'] -%}{%- set turns = messages[1:] -%}"
        "{%- else -%}"
        f'{{%- set system = "{system}" -%}}{{%- set turns = messages -%}}'
        "{%- endif -%}"
        "{{ system + ' ' }}"
        "{%- for turn in turns -%}"
        "{%- if turn['role'] == 'user' -%}{{ 'USER: ' + turn['content'] + ' ' }}"
        "{%- else -%}{{ 'ASSISTANT: ' + turn['content'] + '</s>' }}{%- endif -%}"
        "{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{ 'ASSISTANT:' }}{%- endif -%}"
    )


CHAT_TEMPLATES: Mapping[str, str] = {
    "vicuna_v1": _conversation(
        "A chat between a curious user and an artificial intelligence assistant. The assistant "
        "gives helpful, detailed, and polite answers to the user's questions."
    ),
    "llava_v1": _conversation(
        "A chat between a curious human and an artificial intelligence assistant. The assistant "
        "gives helpful, detailed, and polite answers to the human's questions."
    ),
    "plain": "{%- for turn in messages -%}{{ turn['content'] + '\\n' }}{%- endfor -%}",
}
"""By the names of the published code, whose experts were trained and judged with `vicuna_v1`."""
CHAT_TEMPLATE = CHAT_TEMPLATES["vicuna_v1"]
