"""Encoders: raw media, once preprocessed, to features. One family per file, one plain registry."""

from collections.abc import Mapping
from typing import cast

import torch
from torch import nn

from omnicompose.encoders.beats import Beats
from omnicompose.encoders.clap_audio import ClapAudio
from omnicompose.encoders.conformer import Conformer
from omnicompose.encoders.conv_video import ConvVideo
from omnicompose.encoders.encoder import Config, Encoder
from omnicompose.encoders.frame_wise import FrameWise
from omnicompose.encoders.languagebind_video import LanguageBindVideo
from omnicompose.encoders.pictures import PICTURE_ENCODERS
from omnicompose.encoders.point_bert import PointBert
from omnicompose.encoders.qwen2_audio import Qwen2Audio
from omnicompose.encoders.spectrogram_transformer import SpectrogramTransformer
from omnicompose.encoders.videomae import VideoMae
from omnicompose.encoders.vjepa2 import Vjepa2
from omnicompose.encoders.wav2vec2 import Wav2Vec2
from omnicompose.encoders.whisper import Whisper
from omnicompose.errors import SourceError

ENCODERS: dict[str, type[Encoder]] = {
    **PICTURE_ENCODERS,
    "beats": Beats,
    "clap_audio": ClapAudio,
    "conformer": Conformer,
    "qwen2_audio": Qwen2Audio,
    "spectrogram_transformer": SpectrogramTransformer,
    "wav2vec2": Wav2Vec2,
    "whisper": Whisper,
    "conv_video": ConvVideo,
    "frame_wise": FrameWise,
    "languagebind_video": LanguageBindVideo,
    "videomae": VideoMae,
    "vjepa2": Vjepa2,
    "point_bert": PointBert,
}
"""Every encoder by the name that configurations use: of pictures, sounds, clips and clouds."""

__all__ = ["ENCODERS", "Config", "Encoder", "make_encoder", "media_dtype", "num_features"]


def make_encoder(description: Mapping[str, object]) -> Encoder:
    """The encoder that `{"type": name, "config": {...}}` describes, with fresh weights.

    Raises:
        SourceError: an unknown type, or a config that the type does not know.
    """
    return _encoder_class(description).from_config(cast(Config, description["config"]))


def media_dtype(encoder: nn.Module) -> torch.dtype:
    """What an encoder's media must be given in: its weights' dtype, unless it says otherwise."""
    weights = next(p.dtype for p in encoder.parameters() if p.is_floating_point())
    own: torch.dtype = getattr(encoder, "media_dtype", weights)
    return own


def num_features(description: Mapping[str, object], media_shape: tuple[int, ...]) -> int:
    """Features that one preprocessed medium of `media_shape` gives; makes no weights.

    Raises:
        SourceError: an unknown type, or a config that the type does not know.
    """
    config = cast(Config, description["config"])
    return _encoder_class(description).num_features(config, media_shape)


def _encoder_class(description: Mapping[str, object]) -> type[Encoder]:
    name = description["type"]
    if name not in ENCODERS:
        raise SourceError(
            f"encoder {name!r} is unknown: expected one of {', '.join(ENCODERS)}. "
            "Correct the encoder's type."
        )
    return ENCODERS[str(name)]
