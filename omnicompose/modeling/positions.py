"""Where tokens stand: three rows of positions for language models with M-RoPE.

M-RoPE turns a head's dimensions by three positions, of time, height and width. Text advances all
three together, and so do media of experts with ordinary positions: with equal rows M-RoPE is RoPE.
A medium of an M-RoPE expert brings the places of its own embeddings.

Places are `[4, T]` int64: time, height and width of each embedding, counted from the start of its
run (embeddings without a word between them), and the number of the run.
"""

from collections.abc import Mapping
from itertools import groupby
from typing import cast

import torch

from omnicompose.errors import ModelInputError
from omnicompose.modalities import MODALITIES
from omnicompose.modeling.router import EmbeddedMedia, check_count


def places_of(is_media: torch.Tensor, positions: torch.Tensor | None) -> torch.Tensor:
    """Places `[4, T]` of one medium's embeddings.

    Args:
        is_media: `[L]` which tokens of its prompt are embeddings.
        positions: `[3 or 4, 1, L]` as its own family numbers them; None or `[1, L]` where the
            family counts tokens.
    """
    starts = is_media & ~torch.nn.functional.pad(is_media, (1, 0))[:-1]
    runs = (starts.cumsum(0) - 1)[is_media]
    own = positions is not None and positions.ndim == 3
    if own:
        rows = positions[-3:, 0]  # type: ignore[index]  # `own` says that it is there
    else:
        rows = torch.arange(len(is_media), device=is_media.device).expand(3, -1)
    first = (rows[:, starts].amin(0))[runs] if len(runs) else rows[0, :0]
    return torch.cat([rows[:, is_media] - first, runs[None]])


def line_of_places(num_embeddings: int, device: torch.device) -> torch.Tensor:
    """Places `[4, T]` of embeddings that follow one another like words."""
    line = torch.arange(num_embeddings, device=device).expand(3, -1)
    return torch.cat([line, torch.zeros_like(line[:1])])


def join_places(places: list[torch.Tensor]) -> torch.Tensor:
    """Places `[4, sum T]` of several media, their runs numbered on."""
    joined, next_run = [], 0
    for one in places:
        moved = one.clone()
        moved[3] += next_run
        joined.append(moved)
        next_run = int(moved[3, -1]) + 1 if moved.shape[1] else next_run
    return torch.cat(joined, dim=1)


class ThreePositions:
    """Counts on from step to step: how far positions lag behind the number of tokens."""

    def __init__(self) -> None:
        """Start before the first prompt."""
        self.deltas: torch.Tensor | None = None

    def count(
        self,
        types: torch.Tensor,
        attention_mask: torch.Tensor | None,
        media: EmbeddedMedia,
        num_cached: int,
    ) -> torch.LongTensor:
        """Positions `[3, B, L]` of the tokens that a cache does not hold.

        Args:
            types: `[B, L]` modality of these tokens.
            attention_mask: `[B, cached + L]`, 0 for padding; None: no padding.
            media: of these tokens.
            num_cached: positions that the cache holds.

        Raises:
            ModelInputError: embeddings came without their places.
        """
        if lost := sorted(set(media.embeddings) - set(media.places)):
            raise ModelInputError(
                f"media_embeds of {', '.join(lost)} came without position_ids, which this model "
                "numbers in three rows. Give the media themselves, or position_ids [3, B, L]."
            )
        batch, length = types.shape
        attended = torch.ones(batch, num_cached + length, dtype=torch.bool, device=types.device)
        if attention_mask is not None and attention_mask.ndim == 2:
            attended = attention_mask.bool()
        starts = attended[:, :-length].sum(1)
        if num_cached and self.deltas is not None:
            copies = batch // len(self.deltas)
            starts = starts + self.deltas.to(starts.device).repeat_interleave(copies)
        positions = lay_out(types, attended[:, -length:], media.places, starts)
        self.deltas = positions.amax((0, 2)) + 1 - attended.sum(1)
        return positions


def lay_out(
    types: torch.Tensor,
    attended: torch.Tensor,
    places: Mapping[str, torch.Tensor],
    starts: torch.Tensor,
) -> torch.LongTensor:
    """Positions `[3, B, L]` of a batch.

    Args:
        types: `[B, L]` modality of each token.
        attended: `[B, L]` bool, False for padding, which stands at 0 and takes no position.
        places: modality to the places `[4, sum T]` of its embeddings in reading order.
        starts: `[B]` position of the first token of each row.
    """
    positions = torch.zeros(3, *types.shape, dtype=torch.int64)
    keys = torch.full(types.shape, -1)
    offset = 0
    for name, rows in places.items():
        is_media = (types == MODALITIES[name].token_type_id).cpu()
        check_count(name, int(is_media.sum()), rows.shape[1])
        positions[:, is_media] = rows[:3].cpu()
        keys[is_media] = rows[3].cpu() + offset
        offset = int(keys.max()) + 1
    for row, start in enumerate(starts.tolist()):
        _count_on(positions[:, row], keys[row], attended[row].cpu(), start)
    return cast(torch.LongTensor, positions.to(types.device))


def _count_on(positions: torch.Tensor, keys: torch.Tensor, attended: torch.Tensor, at: int) -> None:
    """Lay one row's words and runs of media behind one another, in place."""
    columns = attended.nonzero().flatten().tolist()
    for key, group in groupby(columns, key=lambda column: int(keys[column])):
        members = torch.tensor(list(group))
        if key < 0:
            positions[:, members] = torch.arange(at, at + len(members))
            at += len(members)
        else:
            taken = int(positions[:, members].max()) + 1
            positions[:, members] += at
            at += taken
