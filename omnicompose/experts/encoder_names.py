"""Encoders as their own projects publish them: what we call them and their tensors, as data.

Of a checkpoint that holds more than the encoder (a text tower, a decoder, a classifier), the rest
is left out. A new kind is an entry and a test.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from omnicompose.experts.modelcompose_names import CLIP, Renaming


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """How a published encoder becomes one of ours.

    Attributes:
        type: key in the registry of encoders.
        option: our setting that holds its configuration.
        config: dotted path of that in its `config.json`; empty: the whole file.
        names: of its tensors.
    """

    type: str
    option: str
    config: str
    names: tuple[Renaming, ...]


def _named(inside: str, others: str = "") -> tuple[Renaming, ...]:
    """Tensors under an optional prefix; what matches `others` is left out."""
    left_out = (Renaming(rf"(?:{others})\b.*", ""),) if others else ()
    return (*left_out, Renaming(rf"(?:{inside})?(.+)", r"tower.\1"))


def _layers(prefix: str, layers: str, inside: Mapping[str, str]) -> tuple[Renaming, ...]:
    """The modules of each layer on disk under the names that they have in memory."""
    return tuple(
        Renaming(
            rf"(?:{prefix})?encoder\.layer\.(\d+)\.{old}\.(.+)", rf"tower.{layers}.\1.{new}.\2"
        )
        for old, new in inside.items()
    )


def _seeing(type_: str, names: tuple[Renaming, ...], config: str = "") -> Published:
    return Published(type=type_, option="vision_config", config=config, names=names)


def _hearing(type_: str, names: tuple[Renaming, ...], config: str = "") -> Published:
    return Published(type=type_, option="audio_config", config=config, names=names)


SIGLIP = (Renaming(r"logit_bias", ""), *CLIP)
ATTENTION = {
    r"attention\.attention\.query": "attention.q_proj",
    r"attention\.attention\.key": "attention.k_proj",
    r"attention\.attention\.value": "attention.v_proj",
    r"attention\.output\.dense": "attention.o_proj",
}
"""Of a layer on disk, and in memory since transformers calls all attention alike."""
DINO = (
    *_layers(r"dinov2\.", "encoder.layer", ATTENTION),
    *_named(r"dinov2\.", "classifier"),
)
WHISPER = (
    Renaming(r"(?:model\.)?decoder\..*|proj_out\..*", ""),
    Renaming(r"(?:model\.)?encoder\.(.+)", r"tower.\1"),
)
AST_LAYER = ATTENTION | {
    r"intermediate\.dense": "mlp.fc1",
    r"output\.dense": "mlp.fc2",
    "layernorm_before": "layernorm_before",
    "layernorm_after": "layernorm_after",
}
AST_PREFIX = r"audio_spectrogram_transformer\."
AST = (*_layers(AST_PREFIX, "layers", AST_LAYER), *_named(AST_PREFIX, "classifier"))
CLAP = (
    Renaming(r"(?:text_model|text_projection|audio_projection|logit_scale_[at])\b.*", ""),
    *_named(r"audio_model\."),
)
VIDEOMAE = (
    Renaming(r"(?:classifier|fc_norm|decoder|encoder_to_decoder|mask_token)\b.*", ""),
    Renaming(r"(?:videomae\.)?(.+)\.q_bias", r"tower.\1.query.bias"),
    Renaming(r"(?:videomae\.)?(.+)\.v_bias", r"tower.\1.value.bias"),
    *_named(r"videomae\."),
)
VJEPA = (
    Renaming(r"(?:vjepa2\.)?predictor\..*|pooler\..*|classifier\..*", ""),
    Renaming(r"(?:vjepa2\.)?encoder\.(.+)", r"tower.\1"),
)

PUBLISHED: Mapping[str, Published] = {
    "clip": _seeing("clip_vision", CLIP, "vision_config"),
    "clip_vision_model": _seeing("clip_vision", CLIP),
    "siglip": _seeing("siglip_vision", SIGLIP, "vision_config"),
    "siglip_vision_model": _seeing("siglip_vision", SIGLIP),
    "siglip2": _seeing("siglip2_vision", SIGLIP, "vision_config"),
    "siglip2_vision_model": _seeing("siglip2_vision", SIGLIP),
    "dinov2": _seeing("dinov2", DINO),
    "pixtral": _seeing("pixtral", _named("")),
    "internvl_vision": _seeing("intern_vit", _named("")),
    "whisper": _hearing("whisper", WHISPER),
    "qwen2_audio_encoder": _hearing("qwen2_audio", _named("")),
    "audio-spectrogram-transformer": _hearing("spectrogram_transformer", AST),
    "clap": _hearing("clap_audio", CLAP, "audio_config"),
    "clap_audio_model": _hearing("clap_audio", CLAP),
    "videomae": _seeing("videomae", VIDEOMAE),
    "vjepa2": _seeing("vjepa2", VJEPA),
}
"""By the `model_type` of `config.json`."""
