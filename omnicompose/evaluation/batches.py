"""Prompts with their media in place, and as tensors: left-padded ids, embeddings in reading order.

B batch, L positions, T embeddings of one medium, D width of the LLM
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import torch

from omnicompose.evaluation.answerer import Prepared
from omnicompose.modeling.positions import join_places


class Batch(NamedTuple):
    """Inputs of one forward pass.

    Attributes:
        input_ids: `[B, L]` int64, padded on the left so that every prompt ends at position L - 1.
        attention_mask: `[B, L]` int64, 0 for padding.
        media_embeds: by modality `[sum T, D]` in reading order; None without media.
        position_ids: `[3, B, L]` where the model numbers three rows.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    media_embeds: dict[str, torch.Tensor] | None
    position_ids: torch.Tensor | None = None


def make_batch(prompts: Sequence[Prepared], pad_id: int, device: torch.device) -> Batch:
    """Stack prompts of different lengths."""
    length = max(len(prompt.token_ids) for prompt in prompts)
    ids = torch.full((len(prompts), length), pad_id, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    embeddings: dict[str, list[torch.Tensor]] = {}
    for row, prompt in enumerate(prompts):
        start = length - len(prompt.token_ids)
        ids[row, start:] = torch.tensor(prompt.token_ids)
        mask[row, start:] = 1
        for medium, embedding in zip(prompt.prompt.media, prompt.embeddings, strict=True):
            embeddings.setdefault(medium.modality, []).append(embedding)
    joined = {modality: torch.cat(parts).to(device) for modality, parts in embeddings.items()}
    return Batch(ids.to(device), mask.to(device), joined or None)


def places_by_modality(prompts: Sequence[Prepared]) -> dict[str, torch.Tensor]:
    """Where the embeddings of a batch stand, `[4, sum T]` in reading order."""
    places: dict[str, list[torch.Tensor]] = {}
    for prompt in prompts:
        for medium, one in zip(prompt.prompt.media, prompt.places, strict=True):
            places.setdefault(medium.modality, []).append(one)
    return {modality: join_places(parts) for modality, parts in places.items()}


def write_media(text: str, written: Sequence[tuple[str, str]]) -> str | None:
    """Write a prompt's media as their families do.

    Args:
        text: with one placeholder per medium.
        written: per medium in order: its placeholder, how it is written.

    Returns:
        The text, or None if its placeholders are not exactly those of the media.
    """
    placeholders = [placeholder for placeholder, _ in written]
    pattern = "|".join(map(re.escape, dict.fromkeys(placeholders))) or r"(?!)"
    if re.findall(pattern, text) != placeholders:
        return None
    media = iter(written)
    return re.sub(pattern, lambda _: next(media)[1], text)


def expand_placeholders(
    token_ids: Sequence[int], counts: Sequence[tuple[int, int]]
) -> tuple[int, ...] | None:
    """Repeat each placeholder as often as its run has embeddings.

    Args:
        token_ids: with one placeholder per run.
        counts: per run in order: id of its placeholder, number of its embeddings.

    Returns:
        The expanded ids, or None if the placeholders are not exactly those of the runs.
    """
    placeholders = {placeholder for placeholder, _ in counts}
    remaining = list(reversed(counts))
    expanded: list[int] = []
    for token_id in token_ids:
        times = 1
        if token_id in placeholders:
            if not remaining or remaining[-1][0] != token_id:
                return None
            times = remaining.pop()[1]
        expanded += [token_id] * times
    return None if remaining else tuple(expanded)
