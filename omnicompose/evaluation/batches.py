"""Prompts as tensors: left-padded ids, and embeddings in reading order.

B batch, L positions, T embeddings of one medium, D width of the LLM
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from omnicompose.evaluation.answerer import Prepared


class Batch(NamedTuple):
    """Inputs of one forward pass.

    Attributes:
        input_ids: `[B, L]` int64, padded on the left so that every prompt ends at position L - 1.
        attention_mask: `[B, L]` int64, 0 for padding.
        media_embeds: by modality `[sum T, D]` in reading order; None without media.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    media_embeds: dict[str, torch.Tensor] | None


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


def expand_placeholders(
    token_ids: Sequence[int], counts: Sequence[tuple[int, int]]
) -> tuple[int, ...] | None:
    """Repeat each placeholder as often as its medium has embeddings.

    Args:
        token_ids: with one placeholder per medium.
        counts: per medium in order: id of its placeholder, number of its embeddings.

    Returns:
        The expanded ids, or None if the placeholders are not exactly those of the media.
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
