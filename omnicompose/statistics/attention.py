"""How much attention text pays to media, block by block.

Per example and block: the attention weights, averaged over heads, from text behind the first medium
to positions of media and to positions of text, averaged over those rows; sums over examples.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from omnicompose.errors import CalibrationError
from omnicompose.statistics.encoding import Example
from omnicompose.statistics.stages import Surroundings, run_block
from omnicompose.statistics.subject import Subject
from omnicompose.statistics.workplace import Workplace


def check_media(examples: Sequence[Example], path: Path) -> None:
    """Refuse data without media.

    Raises:
        CalibrationError: an example shows none, or no text follows its media.
    """
    for example in examples:
        if not bool(asking(example).any()):
            raise CalibrationError(
                f"{path}: line {example.line} shows no media with text behind them, and attention "
                "to media is asked for. Give prompts with media."
            )


def asking(example: Example) -> torch.Tensor:
    """`[L]` bool: positions of text behind the first medium."""
    behind = example.media.cumsum(0) > 0
    return behind & ~example.media


def attention_sums(
    subject: Subject,
    block: int,
    examples: Sequence[Example],
    around: Sequence[Surroundings],
    place: Workplace,
) -> Mapping[str, torch.Tensor]:
    """`[2]`: attention to media and to text, summed over examples."""
    total = torch.zeros(2)
    for number, (example, one) in enumerate(zip(examples, around, strict=True)):
        seen: list[torch.Tensor] = []

        def note(_layer: nn.Module, _given: object, made: tuple[torch.Tensor, ...]) -> None:
            seen.append(made[1])  # noqa: B023  # the hook is gone before the next example

        layer = subject.blocks[block].get_submodule("self_attn")
        handle = layer.register_forward_hook(note)
        try:
            made = run_block(subject, block, place.read(block, number), one)
        finally:
            handle.remove()
        place.write(block + 1, number, made)
        rows = seen[0][0].float().mean(0)[asking(example)].mean(0)
        to_media = rows[example.media].sum()
        total += torch.stack([to_media, rows.sum() - to_media])
    return {f"attention.{block:04d}": total}
