"""The story in one screen: read what was asked, check everything, train stage by stage, write."""

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import set_seed
from transformers import TrainingArguments

from omnicompose.errors import TrainingError
from omnicompose.experts.config import read_json
from omnicompose.experts.resolve import resolve
from omnicompose.export import refuse_existing
from omnicompose.training.config import Stage, TrainConfig, read_train_config
from omnicompose.training.curve import write_curve
from omnicompose.training.host import load_host, modalities_of
from omnicompose.training.loop import (
    Lesson,
    Outcome,
    Schedule,
    StageTrainer,
    load_learned,
    run_stage,
)
from omnicompose.training.new_expert import build_new_expert
from omnicompose.training.order import draw_order, num_steps
from omnicompose.training.preparing import Preparer
from omnicompose.training.records import Record, read_records
from omnicompose.training.samples import Samples, collate
from omnicompose.training.strategies import DTYPES, add_adapters, choose_parameters
from omnicompose.training.subject import Subject
from omnicompose.training.templates import ChatRenderer
from omnicompose.training.work import Work, open_work
from omnicompose.training.write_expert import write_expert
from omnicompose.training.write_host import write_host

Progress = Callable[[str, int, int, float], None]
"""Told the stage, the steps that are done of it, how many there are, and the loss."""
Generator = Callable[[TrainConfig, Stage, Path], Path]
"""Makes the records of a stage in a folder; the JSONL file."""


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
class TrainResult:
    """What was trained.

    Attributes:
        out: the finished folder.
        seconds: wall time.
        losses: by stage, the mean loss of the last tenth of its steps.
    """

    out: Path
    seconds: float
    losses: Mapping[str, float] = field(default_factory=dict)


def train(
    config: TrainConfig | Path,
    out: Path,
    options: TrainOptions | None = None,
    progress: Progress = lambda _stage, _done, _total, _loss: None,
    generators: Mapping[str, Generator] | None = None,
) -> TrainResult:
    """Train an expert and leave one finished folder.

    Args:
        config: what is asked, or the YAML file that says it.
        out: the folder to make; `<out>.partial` is kept beside it meanwhile.
        options: how to run.
        progress: told about every point of the loss curve.
        generators: makers of records by the names that `data.generator` may have.

    Raises:
        TrainingError: the configuration or a record cannot be used.
        SourceError: the base or the encoder cannot be opened.
        ExportError: the output folder exists.
    """
    started, options = time.monotonic(), options or TrainOptions()
    config = read_train_config(config) if isinstance(config, Path) else config
    refuse_existing(out, overwrite=options.overwrite)
    state = PartialState(cpu=options.device == "cpu")
    with state.main_process_first():
        work = open_work(out, config, resume=options.resume or not state.is_main_process)
        files = [_files(config, stage, work.data(n), generators) for n, stage in _stages(config)]
    modalities = modalities_of(config)
    records = [read_records(paths, modalities) for paths in files]
    subject = build_new_expert(config) if config.encoder else load_host(config)
    add_adapters(subject, config)
    _train_stages(config, subject, work, records, _Run(options=options, progress=progress))
    curves = {name_of(n, stage): work.curve(n) for n, stage in _stages(config)}
    if state.is_main_process:
        _write(config, subject, work, out)
    state.wait_for_everyone()
    losses = {name: _tail_mean([loss for _, loss, _ in curve]) for name, curve in curves.items()}
    return TrainResult(out=out, seconds=time.monotonic() - started, losses=losses)


def name_of(place: int, stage: Stage) -> str:
    """What a stage is called in messages and curves."""
    return f"{place + 1} {stage.strategy}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    options: TrainOptions
    progress: Progress


def _stages(config: TrainConfig) -> list[tuple[int, Stage]]:
    return list(enumerate(config.stages))


def _files(
    config: TrainConfig, stage: Stage, folder: Path, generators: Mapping[str, Generator] | None
) -> Sequence[Path]:
    """The JSONL files of a stage, made first if the configuration names a generator."""
    name, known = stage.data.generator, generators or {}
    if name is None:
        return stage.data.files
    if name not in known:
        raise TrainingError(
            f"data.generator: found {name!r}, expected one of {', '.join(known) or 'none here'}. "
            "Correct it, or name `files`."
        )
    return (known[name](config, stage, folder),)


def _train_stages(
    config: TrainConfig,
    subject: Subject,
    work: Work,
    records: Sequence[Sequence[Record]],
    run: _Run,
) -> None:
    """Prepare the records of every stage that is not done, then train stage by stage."""
    if subject.chat_template is None:
        raise TrainingError(
            f"base: {config.base} has no chat template, which says how a chat is written. Put a "
            "chat_template.jinja beside its tokenizer."
        )
    renderer = ChatRenderer(tokenizer=subject.tokenizer, template=subject.chat_template)
    preparer = Preparer(subject=subject, renderer=renderer, max_length=config.max_length)
    room = config.feature_memory // len(config.stages)
    todo = {n for n, _ in _stages(config) if not work.is_done(n)}
    samples = {n: Samples(preparer, records[n], room) for n in sorted(todo)}
    for place, _ in _stages(config):
        if place in todo:
            outcome = _train_stage(config, subject, place, samples.pop(place), work, run)
            _keep(work, place, outcome)
        else:
            load_learned(subject.model, work.weights(place))


def _train_stage(
    config: TrainConfig, subject: Subject, place: int, samples: Samples, work: Work, run: _Run
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
        dataloader_pin_memory=options.device != "cpu",
        use_cpu=options.device == "cpu",
        seed=config.seed,
    )


def _keep(work: Work, place: int, outcome: Outcome) -> None:
    state = PartialState()
    if state.is_main_process:
        work.keep(place, outcome.learned, outcome.curve)
    state.wait_for_everyone()


def _write(config: TrainConfig, subject: Subject, work: Work, out: Path) -> None:
    """Put the result together in the working folder, and move it to its place at once."""
    shutil.rmtree(work.result, ignore_errors=True)
    for place, _ in _stages(config):  # gathered weights, where training spread them
        load_learned(subject.model, work.weights(place))
    writer = write_expert if config.encoder else write_host
    writer(work.result, subject, config, _dtype(config))
    notes = work.result / "training"
    notes.mkdir()
    write_curve(notes, {name_of(n, stage): work.curve(n) for n, stage in _stages(config)})
    packages = ("omnicompose", "torch", "transformers", "peft", "accelerate")
    facts = {
        "config": config.model_dump(mode="json"),
        "versions": {p: version(p) for p in packages},
    }
    (notes / "training.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(out, ignore_errors=True)
    work.result.rename(out)
    shutil.rmtree(work.folder)


def _dtype(config: TrainConfig) -> torch.dtype:
    """As asked, or as the base's weights are."""
    raw = read_json(resolve(config.base) / "config.json")
    text = raw.get("text_config")
    inner = text.get("dtype") if isinstance(text, dict) else None
    return DTYPES[str(config.dtype or raw.get("dtype") or raw.get("torch_dtype") or inner)]


def _tail_mean(losses: Sequence[float]) -> float:
    tail = losses[-max(1, len(losses) // 10) :]
    return sum(tail) / max(1, len(tail))
