"""Encoders: raw media, once preprocessed, to features. One family per file, one plain registry."""

from collections.abc import Mapping
from typing import cast

from omnicompose.encoders.beats import Beats
from omnicompose.encoders.clip_vision import ClipVision
from omnicompose.encoders.conv_video import ConvVideo
from omnicompose.encoders.encoder import Config, Encoder
from omnicompose.encoders.languagebind_video import LanguageBindVideo
from omnicompose.encoders.point_bert import PointBert
from omnicompose.encoders.whisper import Whisper
from omnicompose.errors import SourceError

ENCODERS: dict[str, type[Encoder]] = {
    "beats": Beats,
    "clip_vision": ClipVision,
    "conv_video": ConvVideo,
    "languagebind_video": LanguageBindVideo,
    "point_bert": PointBert,
    "whisper": Whisper,
}
"""Every encoder by the name that configurations use."""

__all__ = ["ENCODERS", "Config", "Encoder", "make_encoder", "num_features"]


def make_encoder(description: Mapping[str, object]) -> Encoder:
    """The encoder that `{"type": name, "config": {...}}` describes, with fresh weights.

    Raises:
        SourceError: an unknown type, or a config that the type does not know.
    """
    return _encoder_class(description).from_config(cast(Config, description["config"]))


def num_features(description: Mapping[str, object], media_shape: tuple[int, ...]) -> int:
    """Features that one preprocessed medium of `media_shape` gives; builds no module.

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
