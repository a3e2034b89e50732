"""How an encoder learns to see: heads on its features name what a medium shows.

The loop is that of `omnicompose train`; a sample of it is a whole batch here.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import Dataset
from transformers import TrainingArguments

from omnicompose.training import loop
from omnicompose.training.strategies import Group
from omnicompose.zoo.preprocessing import Batch

WEIGHT_DECAY = 0.01
BatchOf = Callable[[np.random.Generator, int], Batch]
"""The batch of a step, drawn from a generator of that step's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How long and how fast one stage learns.

    Attributes:
        num_steps: optimizer steps.
        batch_size: media per step.
        learning_rate: its peak, after a warm-up of a tenth; it falls to 0 along a cosine.
    """

    num_steps: int
    batch_size: int = 64
    learning_rate: float = 2e-3


class Heads(nn.Module):
    """From the mean feature to the words of every slot."""

    def __init__(self, slot_sizes: Mapping[str, int], feature_size: int) -> None:
        """One linear map per slot, to as many logits as it has words."""
        super().__init__()
        self.slots = nn.ModuleDict(
            {slot: nn.Linear(feature_size, size) for slot, size in slot_sizes.items()}
        )

    def forward(self, features: torch.Tensor) -> dict[str, torch.Tensor]:
        """Logits `[N, words]` per slot from features `[N, M, E]`."""
        mean = features.mean(dim=1)
        return {slot: head(mean) for slot, head in self.slots.items()}


class Recogniser(nn.Module):
    """Features with heads on them; what is minimised is the heads' cross-entropy over all slots."""

    def __init__(self, part: nn.Module, heads: Heads) -> None:
        """Train `part`, which turns media into features, together with `heads`."""
        super().__init__()
        self.part, self.heads = part, heads

    def forward(self, shown: Mapping[str, torch.Tensor], media: torch.Tensor) -> dict[str, object]:
        """The loss of media `[N, ...]` that show words `[N]` per slot."""
        logits = self.heads(self.part(media))
        losses = [F.cross_entropy(logits[slot], shown[slot]) for slot in logits]
        return {"loss": torch.stack(losses).sum()}


class _Steps(Dataset[Batch]):
    """One batch per step, whatever steps came before."""

    def __init__(self, batch_of: BatchOf, num_steps: int, key: tuple[int, ...]) -> None:
        self._batch_of, self._num_steps, self._key = batch_of, num_steps, key

    def __len__(self) -> int:
        return self._num_steps

    def __getitem__(self, step: int) -> Batch:
        return self._batch_of(np.random.default_rng([*self._key, step]), step)


def train_recogniser(
    recogniser: Recogniser,
    batch_of: BatchOf,
    schedule: Schedule,
    key: tuple[int, ...],
    progress: Callable[[int, int], None],
) -> None:
    """Train a part of an encoder with its heads.

    Args:
        recogniser: both; changed in place.
        batch_of: what it sees at each step.
        schedule: how long and how fast.
        key: of the random generators of all steps.
        progress: told after every step.
    """
    steps = schedule.num_steps
    names = tuple(name for name, p in recogniser.named_parameters() if p.requires_grad)
    group = Group(names=names, peak_rate=schedule.learning_rate, weight_decay=WEIGHT_DECAY)
    lesson = loop.Lesson(
        samples=_Steps(batch_of, steps, key), order=range(steps), collate=_the_only
    )
    rise = loop.Schedule(num_steps=steps, warmup_steps=steps // 10, floor=0.0)
    with tempfile.TemporaryDirectory() as folder:
        arguments = _arguments(folder, steps, seed=key[0])
        trainer = loop.StageTrainer(recogniser, arguments, lesson, [group], rise, frozen=())
        loop.run_stage(trainer, lambda done, _loss: progress(done, steps))


def _arguments(folder: str, num_steps: int, seed: int) -> TrainingArguments:
    return TrainingArguments(
        output_dir=folder,
        max_steps=num_steps,
        per_device_train_batch_size=1,
        max_grad_norm=0.0,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        log_level="error",
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        use_cpu=True,
        seed=seed,
    )


def _the_only(samples: Sequence[object]) -> Mapping[str, object]:
    shown, media = cast(Batch, samples[0])
    return {"shown": shown, "media": media}
