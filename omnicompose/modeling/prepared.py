"""Preprocessed media and how they are written: one kind of answer for every kind of expert."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch

from omnicompose.connectors import num_tokens
from omnicompose.encoders import num_features
from omnicompose.errors import ModelInputError
from omnicompose.modeling.media_inputs import Medium
from omnicompose.modeling.native_processing import NativePreprocessor
from omnicompose.modeling.preprocessors import Options, stack

Entry = Mapping[str, object]
"""A modality as the composite's configuration describes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """One medium.

    Attributes:
        inputs: what its encoder takes: a tensor, or a family's own model inputs.
        text: what stands for it in the text, a placeholder for each of its embeddings.
    """

    inputs: torch.Tensor | Mapping[str, torch.Tensor]
    text: str


def prepare(
    entry: Entry, tensors: Callable[[], Sequence[torch.Tensor]], modality: str
) -> list[Prepared]:
    """Media that the modality's own preprocessor turns into tensors.

    Args:
        entry: of the modality.
        tensors: preprocesses all media of one call.
        modality: its name.
    """
    token = str(entry["token"])
    return [
        Prepared(inputs=one, text=token * count_tokens(modality, entry, tuple(one.shape)))
        for one in tensors()
    ]


def prepare_native(
    preprocessor: NativePreprocessor, entry: Entry, media: Sequence[Medium], options: Options
) -> list[Prepared]:
    """Media that a family's own processor preprocesses and writes."""
    items = [preprocessor.item(medium, str(entry["token"]), options) for medium in media]
    return [Prepared(inputs=item.tensors, text=item.text) for item in items]


def count_tokens(modality: str, entry: Entry, media_shape: tuple[int, ...]) -> int:
    """Positions that one preprocessed medium takes, its prefix and suffix included.

    Raises:
        ModelInputError: the modality's family decides that by more than a shape.
    """
    if "native" in entry:
        raise ModelInputError(
            f"{modality}: its family counts embeddings while it preprocesses, not from a shape. "
            "Call the processor on the medium and count its placeholders."
        )
    features = num_features(cast(Options, entry["encoder"]), media_shape)
    edges = [cast(int, entry.get(f"num_{end}_tokens", 0)) for end in ("prefix", "suffix")]
    return num_tokens(cast(Options, entry["connector"]), features) + sum(edges)


def joined(
    prepared: Sequence[Prepared],
) -> torch.Tensor | list[torch.Tensor] | list[Mapping[str, torch.Tensor]]:
    """The model input of one modality: a tensor, or one entry per medium."""
    groups = [one.inputs for one in prepared if not isinstance(one.inputs, torch.Tensor)]
    return groups or stack([cast(torch.Tensor, one.inputs) for one in prepared])
