"""The folder of a training that is not finished: what was asked, and what is done of it."""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
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
        _write_whole(folder / CURVE_FILE, json.dumps(curve))
        for checkpoint in folder.glob("checkpoint-*"):
            shutil.rmtree(checkpoint)

    def curve(self, place: int) -> Curve:
        """The loss curve of a stage that has ended."""
        points = json.loads((self.stage(place) / CURVE_FILE).read_text(encoding="utf-8"))
        return [(step, loss, norm) for step, loss, norm in points]

    def weights(self, place: int) -> Path:
        """The weights that a stage changed."""
        return self.stage(place) / WEIGHTS_FILE


def folder_of(out: Path) -> Path:
    """Where the work for an output folder lies."""
    return out.with_name(f"{out.name}.partial")


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Hold a working folder against other processes; an empty one is taken away at the end.

    Raises:
        TrainingError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _lock(descriptor, folder)
        yield
    finally:
        os.close(descriptor)
        with suppress(OSError):
            folder.rmdir()


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        alone = os.path.samestat(os.fstat(descriptor), folder.stat())
    except (BlockingIOError, FileNotFoundError):
        alone = False
    if not alone:
        raise TrainingError(
            f"{folder}: another process is training into this output; expected to be alone. "
            "Wait for it, or choose another --out."
        )


def open_work(out: Path, config: TrainConfig, *, resume: bool) -> Work:
    """Begin a training, or go on with one that was killed.

    Args:
        out: the folder to be.
        config: what is asked; a training does not go on with another, or with other records.
        resume: go on if there is something to go on with.

    Raises:
        TrainingError: what is there was asked otherwise, or there is nothing to be resumed.
    """
    work = Work(folder=folder_of(out))
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
    _clear(work.folder)
    _write_whole(path, json.dumps(asked, indent=1) + "\n")
    return work


def _clear(folder: Path) -> None:
    """Take away what an earlier training left, but not the folder, which is locked."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _write_whole(path: Path, text: str) -> None:
    """Write a file that says how far a training is, so that a kill never leaves half of it."""
    partial = path.with_name(f".{path.name}")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


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
