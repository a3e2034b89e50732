"""Sums over made-up data, of the kinds that methods need."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from omnicompose.merging.method import Measured, TensorGroup
from omnicompose.merging.registry import METHODS


def measured(
    name: str, shape: Sequence[int], count: int, generator: torch.Generator
) -> tuple[Measured, ...]:
    """Sums over made-up data, of the kind that the method needs; none if it needs none."""

    def total() -> torch.Tensor:
        rows = torch.randn(20, shape[-1], generator=generator)
        return {
            "gram": rows.T @ rows,
            "merged_gram": rows.T @ rows,
            "fisher": torch.rand(*shape, generator=generator),
            "attention": torch.rand(4, 2, generator=generator) + 0.1,
            "coefficients": torch.full((1,), 1.0 / count),
        }[kind]

    kind = METHODS[name].spec.measures
    if kind is None or (kind.endswith("gram") and len(shape) < 2):
        return ()
    return tuple(Measured(total=total(), count=20.0) for _ in range(count))


def tile_of(one: Measured, shape: Sequence[int], start: int, size: int) -> Measured:
    if one.total.shape != torch.Size(shape):
        return one
    return replace(one, total=one.total.reshape(-1)[start : start + size])


def tiles_of(group: TensorGroup, size: int) -> list[TensorGroup]:
    flat = [tensor.reshape(-1) for tensor in (group.base, *group.experts)]
    return [
        replace(
            group,
            base=flat[0][start : start + size],
            experts=tuple(tensor[start : start + size] for tensor in flat[1:]),
            offset=start,
            measured=tuple(tile_of(one, group.shape, start, size) for one in group.measured),
        )
        for start in range(0, flat[0].numel(), size)
    ]
