"""The four works that the fault campaign disturbs: compose, merge, evaluate, train."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from omnicompose.composer import ComposeOptions, compose
from omnicompose.evaluation import EvaluationOptions, evaluate
from omnicompose.merger import merge
from omnicompose.training.config import read_train_config
from omnicompose.training.train import TrainOptions, train
from omnicompose.training.work import ASKED_FILE, folder_of
from omnicompose.zoo.generators import GENERATORS

ROOT = Path(__file__).parents[1]
TRAINING = """\
base: zoo:base
modality: image
encoder: {source: zoo:llava}
connector: {type: mlp, config: {input_size: 64, output_size: 128}}
stages:
  - strategy: connector
    data: {@}
    steps: 4
    batch_size: 8
    learning_rate: 3e-3
    warmup_steps: 1
save_every: 1
"""
IGNORED = ("seconds", "started", "created", "time", "wall")
"""Keys of JSON files that say when or how fast; all else must be the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Something that leaves a folder.

    Attributes:
        name: of the command.
        do: writes `out`; with `resume` it goes on where a killed one stopped.
        atomic: whether `out` appears only when it is finished.
    """

    name: str
    do: Callable[[Path, bool], None]
    atomic: bool = True

    def contents(self, out: Path) -> dict[str, object]:
        """What must be the same after any accident, by file name."""
        return {
            path.relative_to(out).as_posix(): _content(path)
            for path in sorted(out.rglob("*"))
            if path.is_file() and not any(part.startswith(".") for part in path.parts[-2:])
        }


def _content(path: Path) -> object:
    data = path.read_bytes()
    if path.suffix not in (".json", ".jsonl"):
        return data
    try:
        return [
            _timeless(json.loads(line))
            for line in ([data] if path.suffix == ".json" else data.splitlines())
        ]
    except ValueError:
        return data


def _timeless(data: object) -> object:
    if isinstance(data, dict):
        return {k: _timeless(v) for k, v in data.items() if not any(w in k for w in IGNORED)}
    return [_timeless(one) for one in data] if isinstance(data, list) else data


def make_works(folder: Path) -> list[Work]:
    """The four works; `folder` gets what they share: a composite to evaluate."""
    omni = folder / "omni"
    compose(ROOT / "configs/naive-standard.yaml", omni)
    training = folder / "training.yaml"
    training.write_text(TRAINING.replace("@", "generator: captions, count: 32"))
    config = read_train_config(training)
    # Drawing the zoo's pictures takes longer than this training: once for all trials.
    records = GENERATORS["captions"](config, config.stages[0], folder / "records")
    training.write_text(TRAINING.replace("@", f"files: [{records}]"))
    return [
        Work(name="compose", do=_compose),
        Work(name="merge", do=_merge),
        Work(name="evaluate", do=lambda out, _: _evaluate(omni, out), atomic=False),
        Work(name="train", do=lambda out, resume: _train(training, out, resume)),
    ]


def _compose(out: Path, resume: bool) -> None:
    compose(ROOT / "configs/damc-stressed.yaml", out, ComposeOptions(resume=resume))


def _merge(out: Path, resume: bool) -> None:
    merge(ROOT / "configs/merge-adapters.yaml", out, ComposeOptions(resume=resume))


def _evaluate(omni: Path, out: Path) -> None:
    options = EvaluationOptions(out_dir=out, limit=12, batch_size=4)
    evaluate(omni, ["zoo/mcub"], options)


def _train(config: Path, out: Path, resume: bool) -> None:
    # `--resume` refuses where nothing has begun, and its message says to leave it out.
    begun = (folder_of(out) / ASKED_FILE).is_file()
    options = TrainOptions(resume=resume and begun, device="cpu")
    train(config, out, options)
