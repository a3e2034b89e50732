"""Random dropping of delta entries, and the two ways to make up for what was dropped."""

from collections.abc import Mapping, Sequence

import torch

from omnicompose.merging.method import Parameter, TensorGroup

RESCALE = Parameter(
    name="rescale",
    default="none",
    description="l1: scale the kept entries of each delta to the L1 norm of all its entries",
    choices=("none", "l1"),
)


def observe_l1(
    group: TensorGroup, moved: Sequence[torch.Tensor], kept: Sequence[torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Per expert `l1.<expert>`: fp64 `[2]`, the L1 norms of the delta and of what is kept."""
    return {
        f"l1.{expert}": torch.stack([_l1(full), _l1(part)])
        for expert, full, part in zip(group.expert_names, moved, kept, strict=True)
    }


def restore_l1(
    group: TensorGroup, kept: list[torch.Tensor], statistics: Mapping[str, torch.Tensor]
) -> list[torch.Tensor]:
    """Scale what is kept to the L1 norm of the whole delta, where that was observed."""
    for i, expert in enumerate(group.expert_names):
        norms = statistics.get(f"l1.{expert}")
        if norms is not None and float(norms[1]) > 0.0:
            kept[i] = kept[i] * float(norms[0] / norms[1])
    return kept


def _l1(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.abs().sum(dtype=torch.float64)


def drop(delta: torch.Tensor, uniform: torch.Tensor, probability: float) -> torch.Tensor:
    """The delta where `uniform < probability`, else 0."""
    return delta * torch.lt(uniform, probability, out=torch.empty_like(uniform))
