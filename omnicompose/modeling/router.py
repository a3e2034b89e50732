"""Where media go: to the encoder of their modality, and their embeddings to its placeholders.

B batch, L positions, D width of the LLM, N media of a modality, T embeddings of one medium.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import torch

from omnicompose.errors import ModelInputError
from omnicompose.modalities import MODALITIES, TEXT_TOKEN_TYPE_ID
from omnicompose.streams import TEXT, Routing

Tensors = torch.Tensor | Sequence[torch.Tensor]
Media = Tensors | Sequence[Mapping[str, torch.Tensor]]
"""Preprocessed media of one modality: `[N, ...]`, N tensors of any shapes, or for a modality that
runs its family's own code N groups of that family's inputs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedMedia:
    """What encoders made of media.

    Attributes:
        embeddings: modality to `[sum T, D]` in reading order.
        places: modality to where they stand, `[4, sum T]`; see `omnicompose.modeling.positions`.
            Missing for embeddings that were given ready-made.
    """

    embeddings: Mapping[str, torch.Tensor]
    places: Mapping[str, torch.Tensor]


def media_by_modality(
    inputs: Mapping[str, Media | None], known: Collection[str]
) -> dict[str, Media]:
    """The media that were given, by modality.

    Args:
        inputs: model inputs by input name or modality name; None where nothing was given.
        known: modalities that the model has.

    Raises:
        ModelInputError: media of a modality that the model lacks.
    """
    by_input = {modality.input_name: name for name, modality in MODALITIES.items()}
    given = {by_input.get(name, name): m for name, m in inputs.items() if m is not None}
    if strange := sorted(set(given) - set(known)):
        raise ModelInputError(
            f"the input holds {', '.join(strange)}, but this model has encoders for "
            f"{', '.join(known) or 'no modality'} only. Leave it out or load another composite."
        )
    return {name: media for name, media in given.items() if len(media)}


def placeholder_types(
    input_ids: torch.Tensor, modalities: Mapping[str, Mapping[str, object]]
) -> torch.Tensor:
    """Token types `[B, L]` int64 of `input_ids` `[B, L]`, read off the placeholders."""
    types = torch.full_like(input_ids, TEXT_TOKEN_TYPE_ID)
    for name, entry in modalities.items():
        types[input_ids == entry["token_id"]] = MODALITIES[name].token_type_id
    return types


def encode_by_shape(
    media: Tensors, encode: Callable[[torch.Tensor], torch.Tensor]
) -> list[torch.Tensor]:
    """Embeddings `[T, D]` of each medium; media of one shape go through `encode` together."""
    if isinstance(media, torch.Tensor):
        return list(encode(media))
    places: dict[torch.Size, list[int]] = {}
    for place, medium in enumerate(media):
        places.setdefault(medium.shape, []).append(place)
    embeddings: dict[int, torch.Tensor] = {}
    for same in places.values():
        embeddings |= zip(same, encode(torch.stack([media[place] for place in same])), strict=True)
    return [embeddings[place] for place in range(len(media))]


def put_in_place(
    inputs_embeds: torch.Tensor, routing: Routing | None, media_embeds: Mapping[str, torch.Tensor]
) -> torch.Tensor:
    """Text embeddings `[B, L, D]` with media embeddings `[sum T, D]` at their placeholders.

    Raises:
        ModelInputError: a modality has more or fewer placeholders than embeddings.
    """
    places = {} if routing is None else {k: v for k, v in routing.tokens.items() if k != TEXT}
    for name in sorted({*places, *media_embeds}):
        found = places[name].numel() if name in places else 0
        expected = len(media_embeds[name]) if name in media_embeds else 0
        check_count(name, found, expected)
    flat = inputs_embeds.flatten(0, 1)
    for name, embeds in media_embeds.items():
        embeds = embeds.to(flat.device, flat.dtype)
        flat = flat.index_copy(0, places[name].to(flat.device), embeds)
    return flat.view_as(inputs_embeds)


def check_count(name: str, num_placeholders: int, num_embeddings: int) -> None:
    """Refuse placeholders and embeddings of a modality that do not match.

    Raises:
        ModelInputError: their numbers differ.
    """
    if num_placeholders != num_embeddings:
        raise ModelInputError(
            f"{name}: found {num_placeholders} placeholder tokens in the input, but the media "
            f"given make {num_embeddings} embeddings. Let the processor expand the placeholders, "
            "and pass on every medium it returns."
        )


def repeat_rows(
    media_embeds: Mapping[str, torch.Tensor], types: torch.Tensor, times: int
) -> dict[str, torch.Tensor]:
    """Embeddings `[sum T, D]` for a batch whose every row is repeated `times` times in a row.

    Args:
        media_embeds: in reading order of the batch as it was.
        types: `[B, L]` token types of the batch as it was.
        times: copies of each row.

    Raises:
        ModelInputError: a modality has more or fewer placeholders than embeddings.
    """
    repeated = {}
    for name, embeds in media_embeds.items():
        counts = (types == MODALITIES[name].token_type_id).sum(dim=1).tolist()
        check_count(name, sum(counts), len(embeds))
        rows = torch.split(embeds, counts)
        repeated[name] = torch.cat([row for row in rows for _ in range(times)])
    return repeated


def unseen_rows(
    media_embeds: Mapping[str, torch.Tensor], types: torch.Tensor, num_unseen: int
) -> dict[str, torch.Tensor]:
    """Embeddings `[sum T, D]` of the last positions alone, where a cache holds those before.

    A dialogue may be continued with the media of all its turns or with the new ones only.

    Args:
        media_embeds: in reading order, of all positions or of the last ones.
        types: `[B, L]` token types of all positions.
        num_unseen: how many last positions the cache does not hold.
    """
    unseen = {}
    is_last = torch.arange(types.shape[1], device=types.device) >= types.shape[1] - num_unseen
    for name, embeds in media_embeds.items():
        is_media = types == MODALITIES[name].token_type_id
        kept = is_last.expand_as(types)[is_media]
        unseen[name] = embeds[kept.to(embeds.device)] if len(kept) == len(embeds) else embeds
    return {name: embeds for name, embeds in unseen.items() if len(embeds)}
