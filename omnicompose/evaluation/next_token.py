"""What a model says of the token behind its prompts, in a forward pass of ours or of `generate`.

B batch, L positions
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from omnicompose.evaluation.loaded import ComposedModel, HasLogits


@contextmanager
def memory_told() -> Iterator[None]:
    """Make an allocation that fails on any device a `MemoryError`."""
    try:
        yield
    except RuntimeError as err:
        said = str(err).split("\n")[0]
        if isinstance(err, torch.OutOfMemoryError) or "can't allocate memory" in said:
            raise MemoryError(said) from err
        raise


def counted(attention_mask: torch.Tensor) -> torch.Tensor:
    """Positions `[B, L]` from 0 at each row's first token; padding stands at 0."""
    return (attention_mask.cumsum(-1) - 1).clamp(min=0)


@contextmanager
def first_logits(model: ComposedModel) -> Iterator[list[torch.Tensor]]:
    """What the first forward pass says of the token behind its last position, `[B, vocabulary]`.

    Raw: before the model's generation settings (penalties, forbidden tokens) touch them.
    """
    seen: list[torch.Tensor] = []

    def keep(module: object, inputs: object, output: HasLogits) -> None:
        if not seen:
            seen.append(output.logits[:, -1].clone())

    handle = model.register_forward_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()
