"""A stage on transformers' Trainer: AdamW, warm-up, cosine; killed, it goes on bit for bit."""

import math
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import Dataset
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from omnicompose.training.order import ListedOrder
from omnicompose.training.strategies import Group

WEIGHTS_FILE = "model.safetensors"
STATE_FILE = "trainer_state.json"
BETA_1, BETA_2 = 0.9, 0.98
WRAPPERS = re.compile(r"(?:(?<=\.)|^)(?:_fsdp_wrapped_module|_orig_mod|module)\.")
"""What distributed training puts before parameters' names."""
Report = Callable[[int, float], None]
"""Told how many steps are done, and the loss of the last ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How long and how fast.

    Attributes:
        num_steps: optimizer steps.
        warmup_steps: steps of linear rise.
        floor: share of the peak rate where the cosine ends.
    """

    num_steps: int
    warmup_steps: int = 30
    floor: float = 0.05

    def factor(self, step: int) -> float:
        """Share of the peak learning rate at `step`, counted from 0."""
        rise = min(1.0, (step + 1) / max(1, self.warmup_steps))
        return rise * max(self.floor, 0.5 * (1 + math.cos(math.pi * step / self.num_steps)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """What a stage sees.

    Attributes:
        samples: the dataset.
        order: indices in the order in which they are seen.
        collate: samples to one batch.
    """

    samples: Dataset[object]
    order: Sequence[int]
    collate: Callable[[Sequence[object]], Mapping[str, object]]


class StageTrainer(Trainer):  # type: ignore[misc]  # transformers is untyped here
    """Trainer with a rate per group of parameters, a listed order, and checkpoints of what learns.

    Frozen weights are where they came from; a checkpoint holds the others alone.
    """

    optimizer: torch.optim.Optimizer | None
    lr_scheduler: LambdaLR | None

    def __init__(
        self,
        model: nn.Module,
        args: TrainingArguments,
        lesson: Lesson,
        groups: Sequence[Group],
        schedule: Schedule,
        frozen: Sequence[nn.Module],
    ) -> None:
        """Get ready to train `model` on `lesson`; `frozen` modules stay as in use (no dropout)."""
        self._lesson, self._groups, self._schedule = lesson, groups, schedule
        self._frozen = frozen
        super().__init__(
            model=model, args=args, train_dataset=lesson.samples, data_collator=lesson.collate
        )
        self.remove_callback(PrinterCallback)

    def _get_train_sampler(self, train_dataset: object = None) -> ListedOrder:
        return ListedOrder(self._lesson.order)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """AdamW with one group of parameters per rate."""
        if self.optimizer is None:
            learning = {
                plain_name(name): parameter
                for name, parameter in (model or self.model).named_parameters()
            }
            self.optimizer = torch.optim.AdamW(
                [
                    {
                        "params": [learning[name] for name in group.names],
                        "lr": group.peak_rate,
                        "weight_decay": group.weight_decay,
                    }
                    for group in self._groups
                ],
                betas=(BETA_1, BETA_2),
            )
        return self.optimizer

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> LambdaLR:
        """The same rise and fall for every group."""
        if self.lr_scheduler is None:
            stepped = optimizer or self.create_optimizer()
            self.lr_scheduler = LambdaLR(stepped, self._schedule.factor)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def compute_loss(self, model: nn.Module, *args: object, **kwargs: object) -> torch.Tensor:
        """The model's own loss, its frozen encoders in use rather than in training."""
        for module in self._frozen:
            module.eval()
        loss: torch.Tensor = super().compute_loss(model, *args, **kwargs)
        if not loss.requires_grad:  # a batch of text, where only the connector learns
            loss = loss + sum(p.sum() * 0 for p in model.parameters() if p.requires_grad)
        return loss

    def _save(
        self, output_dir: str | None = None, state_dict: Mapping[str, torch.Tensor] | None = None
    ) -> None:
        if self.args.should_save:
            folder = Path(output_dir or self.args.output_dir)
            folder.mkdir(parents=True, exist_ok=True)
            save_file(self.learned(state_dict), folder / WEIGHTS_FILE)

    def _load_from_checkpoint(self, folder: str, model: nn.Module | None = None) -> None:
        if self.is_fsdp_enabled:
            super()._load_from_checkpoint(folder, model)
            return
        load_learned(model or self.model, Path(folder) / WEIGHTS_FILE)

    def learned(
        self, state_dict: Mapping[str, torch.Tensor] | None = None
    ) -> dict[str, torch.Tensor]:
        """Every parameter that learns, by its name in the model.

        Args:
            state_dict: the whole model's, where it is gathered from several processes.
        """
        weights = self.model.state_dict() if state_dict is None else state_dict
        names = {name for group in self._groups for name in group.names}
        return {
            plain_name(name): weight.detach().cpu().contiguous().clone()
            for name, weight in weights.items()
            if plain_name(name) in names
        }

    def gathered(self) -> dict[str, torch.Tensor]:
        """As `learned`, gathered where the weights are spread over processes."""
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            return self.learned(self.accelerator.get_state_dict(self.model_wrapped))
        return self.learned()


class _Telling(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
    """Passes every point of the loss curve on."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def on_log(self, args: object, state: object, control: object, **kwargs: object) -> None:
        logs = kwargs.get("logs")
        if isinstance(logs, Mapping) and "loss" in logs:
            self._report(state.global_step, logs["loss"])  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a stage left.

    Attributes:
        learned: the weights that it changed, by name.
        curve: step, loss and norm of the gradient of every logged point.
    """

    learned: Mapping[str, torch.Tensor]
    curve: tuple[tuple[int, float, float], ...]


def run_stage(trainer: StageTrainer, report: Report) -> Outcome:
    """Train, from the last whole checkpoint if there is one."""
    trainer.add_callback(_Telling(report))
    trainer.train(resume_from_checkpoint=last_checkpoint(Path(trainer.args.output_dir)))
    curve = tuple(
        (int(point["step"]), float(point["loss"]), float(point.get("grad_norm", math.nan)))
        for point in trainer.state.log_history
        if "loss" in point
    )
    learned = trainer.gathered()
    trainer.accelerator.free_memory()
    return Outcome(learned=learned, curve=curve)


def last_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint that was written to its end; what was being written is deleted."""
    while folder.is_dir() and (found := get_last_checkpoint(str(folder))):
        if (Path(found) / STATE_FILE).is_file():  # written last
            return str(found)
        shutil.rmtree(found)
    return None


def load_learned(model: nn.Module, path: Path) -> None:
    """Put weights that learned back into a model."""
    loaded = model.load_state_dict(load_file(path), strict=False)
    assert not loaded.unexpected_keys, loaded.unexpected_keys


def plain_name(name: str) -> str:
    """A parameter's name without what distributed training puts before it."""
    return WRAPPERS.sub("", name)
