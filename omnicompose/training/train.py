"""The story in one screen: read what was asked, check everything, train stage by stage, write."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from accelerate import PartialState

from omnicompose.errors import TrainingError, clear_about_disk
from omnicompose.export import refuse_existing
from omnicompose.training.config import Stage, TrainConfig, read_train_config
from omnicompose.training.curve import Curve
from omnicompose.training.finishing import finish
from omnicompose.training.host import load_host, modalities_of
from omnicompose.training.new_expert import build_new_expert
from omnicompose.training.records import read_records
from omnicompose.training.stages import Progress, Run, TrainOptions, name_of, train_stages
from omnicompose.training.strategies import add_adapters
from omnicompose.training.subject import Subject
from omnicompose.training.work import folder_of, open_work, sole_writer

__all__ = ["Generator", "Progress", "TrainOptions", "TrainResult", "train"]

SHARDING = ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED")
"""What accelerate's launcher sets where a configuration asks for it."""
Generator = Callable[[TrainConfig, Stage, Path], Path]
"""Makes the records of a stage in a folder; the JSONL file."""


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


@clear_about_disk(TrainingError)
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
    _refuse_stages_of_shards(config)
    state = PartialState(cpu=options.device == "cpu")
    alone = sole_writer(folder_of(out)) if state.is_main_process else nullcontext()
    with alone:
        refuse_existing(out, overwrite=options.overwrite)  # or another process made it meanwhile
        curves = _train(config, out, Run(options=options, progress=progress), state, generators)
    losses = {name: _tail_mean([loss for _, loss, _ in curve]) for name, curve in curves.items()}
    return TrainResult(out=out, seconds=time.monotonic() - started, losses=losses)


def _train(
    config: TrainConfig,
    out: Path,
    run: Run,
    state: PartialState,
    generators: Mapping[str, Generator] | None,
) -> dict[str, Curve]:
    """Every stage, and the result in its place; the loss curves by stage."""
    with state.main_process_first():
        work = open_work(out, config, resume=run.options.resume or not state.is_main_process)
        files = [
            _files(config, stage, work.data(n), generators) for n, stage in enumerate(config.stages)
        ]
    modalities = modalities_of(config)
    records = [read_records(paths, modalities) for paths in files]
    subject = _make(config)
    train_stages(config, subject, work, records, run)
    curves = {name_of(n, stage): work.curve(n) for n, stage in enumerate(config.stages)}
    state.wait_for_everyone()
    if state.is_main_process:
        finish(config, _make(config) if _in_shards() else subject, work, out)
    state.wait_for_everyone()
    return curves


def _make(config: TrainConfig) -> Subject:
    """What is trained, its adapters in place."""
    subject = build_new_expert(config) if config.encoder else load_host(config)
    add_adapters(subject, config)
    return subject


def _in_shards() -> bool:
    """Whether accelerate's launcher asked for weights that are spread over processes."""
    return any(os.environ.get(name) == "true" for name in SHARDING)


def _refuse_stages_of_shards(config: TrainConfig) -> None:
    if _in_shards() and len(config.stages) > 1:
        raise TrainingError(
            f"stages: found {len(config.stages)}, but FSDP and DeepSpeed spread the weights of one "
            "stage over processes for good. Train them one by one: name the first one's "
            "connector.safetensors as `connector.weights` of the second."
        )


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


def _tail_mean(losses: Sequence[float]) -> float:
    tail = losses[-max(1, len(losses) // 10) :]
    return sum(tail) / max(1, len(tail))
