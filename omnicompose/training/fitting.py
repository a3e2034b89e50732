"""The training loop: AdamW, warm-up, cosine, clipped gradients; nothing else."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How long and how fast.

    Attributes:
        num_steps: optimizer steps.
        warmup_steps: steps of linear rise.
        floor: share of the peak rate where the cosine ends.
        weight_decay: of AdamW.
        max_norm: gradients are clipped to it.
    """

    num_steps: int
    warmup_steps: int = 30
    floor: float = 0.05
    weight_decay: float = 0.0
    max_norm: float = 1.0

    def factor(self, step: int) -> float:
        """Share of the peak learning rate at `step`, counted from 0."""
        rise = min(1.0, (step + 1) / self.warmup_steps)
        return rise * max(self.floor, 0.5 * (1 + math.cos(math.pi * step / self.num_steps)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Parameters that learn at one rate.

    Attributes:
        parameters: what learns.
        peak_rate: its learning rate where the schedule is at its height.
    """

    parameters: Sequence[nn.Parameter]
    peak_rate: float


def fit(
    loss_at: Callable[[int], torch.Tensor],
    groups: Sequence[Group],
    schedule: Schedule,
    report: Callable[[int, float], None] = lambda step, loss: None,
) -> float:
    """Minimise; returns the mean loss of the last tenth of the steps.

    Args:
        loss_at: step to a scalar with a graph. It draws its own batch; the caller seeds it.
        groups: what learns, and how fast.
        schedule: how long and how fast.
        report: told the number of finished steps and the loss after each.
    """
    optimizer = torch.optim.AdamW(
        [{"params": list(group.parameters), "peak": group.peak_rate} for group in groups],
        lr=0.0,
        betas=(0.9, 0.98),
        weight_decay=schedule.weight_decay,
    )
    driven = [parameter for group in groups for parameter in group.parameters]
    losses: list[float] = []
    for step in range(schedule.num_steps):
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * schedule.factor(step)
        loss = loss_at(step)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        torch.nn.utils.clip_grad_norm_(driven, schedule.max_norm)
        optimizer.step()
        losses.append(loss.item())
        report(step + 1, losses[-1])
    tail = losses[-max(1, len(losses) // 10) :]
    return sum(tail) / len(tail)
