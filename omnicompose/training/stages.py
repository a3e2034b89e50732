"""The stages of a training, one after the other; those that are done are read back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import set_seed
from transformers import TrainingArguments

from omnicompose.errors import TrainingError
from omnicompose.training.config import Stage, TrainConfig
from omnicompose.training.loop import (
    Lesson,
    Outcome,
    Schedule,
    StageTrainer,
    load_learned,
    run_stage,
)
from omnicompose.training.order import draw_order, num_steps
from omnicompose.training.preparing import Preparer
from omnicompose.training.records import Record
from omnicompose.training.samples import Samples, collate
from omnicompose.training.strategies import choose_parameters
from omnicompose.training.subject import Subject
from omnicompose.training.templates import ChatRenderer
from omnicompose.training.work import Work

Progress = Callable[[str, int, int, float], None]
"""Told the stage, the steps that are done of it, how many there are, and the loss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """How a training is run; none of it changes what is asked.

    Attributes:
        resume: go on with a training that was killed.
        overwrite: replace an output folder that exists.
        device: `cpu`, or None for what accelerate finds.
    """

    resume: bool = False
    overwrite: bool = False
    device: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How a training is run, and who is told.

    Attributes:
        options: how.
        progress: told about every point of the loss curve.
    """

    options: TrainOptions
    progress: Progress


def name_of(place: int, stage: Stage) -> str:
    """What a stage is called in messages and curves."""
    return f"{place + 1} {stage.strategy}"


def train_stages(
    config: TrainConfig,
    subject: Subject,
    work: Work,
    records: Sequence[Sequence[Record]],
    run: Run,
) -> None:
    """Prepare the records of every stage that is not done, then train stage by stage.

    Args:
        config: what is asked.
        subject: what learns; it has learned when this returns.
        work: where every stage is kept.
        records: of every stage.
        run: how.

    Raises:
        TrainingError: a record that cannot be used, or a stage in which nothing learns.
    """
    if subject.chat_template is None:
        raise TrainingError(
            f"base: {config.base} has no chat template, which says how a chat is written. Put a "
            "chat_template.jinja beside its tokenizer."
        )
    renderer = ChatRenderer(tokenizer=subject.tokenizer, template=subject.chat_template)
    preparer = Preparer(subject=subject, renderer=renderer, max_length=config.max_length)
    room = config.feature_memory // len(config.stages)
    todo = {n for n in range(len(config.stages)) if not work.is_done(n)}
    samples = {n: Samples(preparer, records[n], room) for n in sorted(todo)}
    for place in range(len(config.stages)):
        if place in todo:
            outcome = _train_stage(config, subject, place, samples.pop(place), work, run)
            _keep(work, place, outcome)
        else:
            load_learned(subject.model, work.weights(place))


def _train_stage(
    config: TrainConfig, subject: Subject, place: int, samples: Samples, work: Work, run: Run
) -> Outcome:
    stage = config.stages[place]
    groups = choose_parameters(subject, stage, config.precision)
    arguments = _arguments(config, place, len(samples), work.stage(place), run.options)
    replaces = stage.encoder_learning_rate == 0 and samples.encode_media(config.feature_memory)
    for frontend in subject.frontends.values():
        frontend.stand_in() if replaces else frontend.put_back()
    per_step = arguments.train_batch_size * arguments.world_size * stage.accumulate
    order = draw_order(
        samples.lengths,
        num_draws=arguments.max_steps * per_step,
        batch_size=arguments.train_batch_size,
        seed=config.seed + place,
        shuffle=stage.shuffle,
        group_by_length=stage.group_by_length,
    )
    set_seed(config.seed + place)
    trainer = StageTrainer(
        subject.model,
        arguments,
        Lesson(
            samples=samples,
            order=order,
            collate=partial(collate, pad_token_id=subject.tokenizer.pad_token_id or 0),
        ),
        groups,
        Schedule(num_steps=arguments.max_steps, warmup_steps=stage.warmup_steps, floor=stage.floor),
        frozen=() if stage.encoder_learning_rate else subject.encoders(),
    )
    name, total = name_of(place, stage), arguments.max_steps
    return run_stage(trainer, lambda done, loss: run.progress(name, done, total, loss))


def _arguments(
    config: TrainConfig, place: int, num_records: int, folder: Path, options: TrainOptions
) -> TrainingArguments:
    """What transformers' Trainer is told; FSDP and DeepSpeed come from accelerate's launcher."""
    stage = config.stages[place]
    processes = PartialState().num_processes
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=num_steps(
            num_records,
            steps=stage.steps,
            epochs=stage.epochs,
            per_step=stage.batch_size * stage.accumulate * processes,
        ),
        per_device_train_batch_size=stage.batch_size,
        gradient_accumulation_steps=stage.accumulate,
        learning_rate=stage.learning_rate,
        max_grad_norm=stage.max_grad_norm,
        bf16=config.precision == "bfloat16",
        fp16=config.precision == "float16",
        activation_checkpointing=config.gradient_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False},
        save_strategy="steps" if config.save_every else "no",
        save_steps=config.save_every or 1,
        save_total_limit=2,
        logging_steps=config.log_every,
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        log_level="error",
        remove_unused_columns=False,
        dataloader_num_workers=config.workers,
        dataloader_pin_memory=torch.cuda.is_available() and options.device != "cpu",
        use_cpu=options.device == "cpu",
        seed=config.seed,
    )


def _keep(work: Work, place: int, outcome: Outcome) -> None:
    state = PartialState()
    if state.is_main_process:
        work.keep(place, outcome.learned, outcome.curve)
    state.wait_for_everyone()
