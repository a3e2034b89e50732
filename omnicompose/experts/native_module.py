"""A family that runs as it is: its base model without its language model, as one module."""

import json
from collections.abc import Mapping
from typing import cast

from omnicompose.experts.config import dig_mapping
from omnicompose.experts.expert import Module, Weights
from omnicompose.families import NativeModel
from omnicompose.tensors.selected import SelectedSource

NATIVE = "native"
PREFIX = "family."
"""The module that holds the family's base model calls it so."""
FORGOTTEN = ("architectures", "transformers_version", "_name_or_path", "auto_map", "dtype")
NO_TOKENS = ("pad_token_id", "bos_token_id", "eos_token_id")


def native_module(
    native: NativeModel, modality: str, config: Mapping[str, object], weights: Weights
) -> Module:
    """The encoder, and with it the connector, of one modality of a family.

    Args:
        native: how the family runs.
        modality: one that it understands.
        config: the checkpoint's configuration, defaults filled in.
        weights: every tensor outside the language model.
    """
    media = native.media[modality]
    unused = tuple(f"{child}." for child in media.unused)
    kept = {name: name for name in weights.origins if not name.startswith(unused or ("\0",))}
    return Module(
        type=NATIVE,
        config={
            "base_class": native.base_class,
            "config": without_layers(dig_mapping(config, native.config)),
            "language_model": native.language_model,
            "ids": list(media.ids),
            "unused": list(media.unused),
        },
        weights=Weights(
            source=SelectedSource(weights.source, {PREFIX + name: name for name in kept}),
            origins={PREFIX + name: weights.origins[name] for name in kept},
        ),
    )


def without_layers(config: Mapping[str, object]) -> dict[str, object]:
    """A family's configuration whose language model is only as wide as it was."""
    plain = cast(dict[str, object], json.loads(json.dumps(config)))
    for key in FORGOTTEN:
        plain.pop(key, None)
    text = cast(dict[str, object], plain["text_config"])
    text |= {"num_hidden_layers": 0, "vocab_size": 1} | dict.fromkeys(NO_TOKENS)
    if "layer_types" in text:
        text["layer_types"] = []
    return plain


def media_ids(native: NativeModel, modality: str, config: Mapping[str, object]) -> tuple[int, ...]:
    """The expert's token ids that stand for embeddings of a modality."""
    own = dig_mapping(config, native.config)
    ids: list[int] = []
    for name in native.media[modality].ids:
        # Older configuration classes store `image_token_index` and answer to both names.
        value = own[name] if name in own else own[name.replace("_id", "_index")]
        ids += value if isinstance(value, list) else [cast(int, value)]
    return tuple(ids)
