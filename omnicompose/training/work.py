"""The folder of a training that is not finished: what was asked, and what is done of it."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from omnicompose.errors import TrainingError
from omnicompose.training.config import TrainConfig
from omnicompose.training.curve import Curve

ASKED_FILE, WEIGHTS_FILE, CURVE_FILE = "asked.json", "learned.safetensors", "curve.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Where a training keeps what it will need to go on.

    Attributes:
        folder: beside the output, with `.partial` behind its name.
    """

    folder: Path

    def stage(self, place: int) -> Path:
        """The folder of a stage, counted from 0."""
        return self.folder / f"stage-{place + 1}"

    @property
    def result(self) -> Path:
        """Where the expert is put together."""
        return self.folder / "result"

    def data(self, place: int) -> Path:
        """Where the records of a stage are made, if they are not given."""
        return self.folder / f"data-{place + 1}"

    def is_done(self, place: int) -> bool:
        """Whether a stage has ended."""
        return (self.stage(place) / CURVE_FILE).is_file()

    def keep(self, place: int, learned: Mapping[str, torch.Tensor], curve: Curve) -> None:
        """Keep what a stage left, and drop its checkpoints."""
        folder = self.stage(place)
        folder.mkdir(parents=True, exist_ok=True)
        save_file(dict(learned), folder / WEIGHTS_FILE)
        (folder / CURVE_FILE).write_text(json.dumps(curve), encoding="utf-8")
        for checkpoint in folder.glob("checkpoint-*"):
            shutil.rmtree(checkpoint)

    def curve(self, place: int) -> Curve:
        """The loss curve of a stage that has ended."""
        points = json.loads((self.stage(place) / CURVE_FILE).read_text(encoding="utf-8"))
        return [(step, loss, norm) for step, loss, norm in points]

    def weights(self, place: int) -> Path:
        """The weights that a stage changed."""
        return self.stage(place) / WEIGHTS_FILE


def open_work(out: Path, config: TrainConfig, *, resume: bool) -> Work:
    """Begin a training, or go on with one that was killed.

    Args:
        out: the folder to be.
        config: what is asked; a training does not go on with another, or with other records.
        resume: go on if there is something to go on with.

    Raises:
        TrainingError: what is there was asked otherwise, or there is nothing to be resumed.
    """
    work = Work(folder=out.with_name(f"{out.name}.partial"))
    files = [file for stage in config.stages for file in stage.data.files]
    asked = {"config": config.model_dump(mode="json"), "data": [_sha256(file) for file in files]}
    path = work.folder / ASKED_FILE
    if resume and path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        if found != asked:
            raise TrainingError(
                f"{work.folder}: holds a training of {_difference(found, asked)}. Give it the "
                "configuration and records it was started with, or start anew without --resume."
            )
        return work
    if resume:
        raise TrainingError(f"{work.folder}: found no training to go on with. Leave out --resume.")
    shutil.rmtree(work.folder, ignore_errors=True)
    work.folder.mkdir(parents=True)
    path.write_text(json.dumps(asked, indent=1) + "\n", encoding="utf-8")
    return work


def _difference(found: Mapping[str, object], asked: Mapping[str, object]) -> str:
    if found.get("data") != asked["data"]:
        return "other records"
    theirs, ours = found.get("config"), asked["config"]
    if isinstance(theirs, dict) and isinstance(ours, dict):
        keys = [key for key in ours if theirs.get(key) != ours[key]]
        return f"another configuration ({', '.join(keys)})"
    return "another configuration"


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
