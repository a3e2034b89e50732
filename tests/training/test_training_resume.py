"""A training that is killed and goes on ends at the same weights, bit for bit."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from training_tiny import new_expert, stage, write_lessons

from omnicompose.errors import TrainingError
from omnicompose.training.config import TrainConfig
from omnicompose.training.loop import last_checkpoint
from omnicompose.training.train import TrainOptions, train
from omnicompose.training.work import sole_writer

ON_CPU = TrainOptions(device="cpu")
RESUME = TrainOptions(device="cpu", resume=True)
NUM_STEPS = 6


def config_of(folder: Path, file: Path) -> TrainConfig:
    dropout = {"rank": 2, "dropout": 0.2}
    stages = [stage("connector", file), stage("lora", file, steps=NUM_STEPS, lora=dropout)]
    return new_expert(folder, "audio", stages, save_every=2)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


class KilledError(Exception):
    """What a test throws into a training."""


@pytest.mark.parametrize("last", [("1 connector", 1), ("1 connector", 2), ("2 lora", 3)], ids=str)
def test_interrupted_anywhere_it_ends_the_same(tmp_path: Path, last: tuple[str, int]) -> None:
    file = write_lessons(tmp_path, "audio", 8)
    config = config_of(tmp_path, file)
    train(config, tmp_path / "whole", ON_CPU)

    def interrupt(name: str, done: int, total: int, loss: float) -> None:
        if (name, done) == last:
            raise KilledError

    with pytest.raises(KilledError):
        train(config, tmp_path / "cut", ON_CPU, interrupt)
    assert not (tmp_path / "cut").exists()
    told: list[tuple[str, int]] = []
    train(config, tmp_path / "cut", RESUME, lambda *news: told.append(news[:2]))
    assert ("2 lora", 1) not in told or last[0] == "1 connector"
    assert files_of(tmp_path / "cut") == files_of(tmp_path / "whole")


def test_killed_by_the_system_it_ends_the_same(tmp_path: Path) -> None:
    file = write_lessons(tmp_path, "audio", 8)
    config = config_of(tmp_path, file)
    path = tmp_path / "train.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json", exclude_unset=True)))
    cut = tmp_path / "cut"
    command = [sys.executable, "-m", "omnicompose", "train", str(path), "--device", "cpu"]
    with (tmp_path / "log").open("w") as log:
        child = subprocess.Popen([*command, "--out", str(cut)], stdout=log, stderr=log)
        reached = tmp_path / "cut.partial" / "stage-2" / "checkpoint-2" / "trainer_state.json"
        while not reached.is_file():
            assert child.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.01)
        os.kill(child.pid, signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    assert not cut.exists()
    train(config, tmp_path / "whole", ON_CPU)
    train(config, cut, RESUME)
    assert files_of(cut) == files_of(tmp_path / "whole")


def test_another_training_is_not_gone_on_with(tmp_path: Path) -> None:
    file = write_lessons(tmp_path, "audio", 8)
    config = config_of(tmp_path, file)

    def interrupt(*_: object) -> None:
        raise KilledError

    with pytest.raises(KilledError):
        train(config, tmp_path / "cut", ON_CPU, interrupt)
    other = config.model_copy(update={"seed": 1})
    with pytest.raises(TrainingError, match=r"another configuration \(seed\)"):
        train(other, tmp_path / "cut", RESUME)
    file.write_text(file.read_text() * 2)
    with pytest.raises(TrainingError, match="other records"):
        train(config, tmp_path / "cut", RESUME)
    with pytest.raises(TrainingError, match="found no training to go on with"):
        train(config, tmp_path / "new", RESUME)


def test_a_checkpoint_that_was_being_written_is_passed_over(tmp_path: Path) -> None:
    for step, files in ((2, ("model.safetensors", "trainer_state.json")), (4, ("rng_state.pth",))):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        for name in files:
            (folder / name).touch()
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-2")
    assert not (tmp_path / "checkpoint-4").exists()
    assert last_checkpoint(tmp_path / "none") is None


def test_two_trainings_do_not_share_an_output(tmp_path: Path) -> None:
    config = config_of(tmp_path, write_lessons(tmp_path, "audio", 8))
    with (
        sole_writer(tmp_path / "out.partial"),
        pytest.raises(TrainingError, match="another process is training into this output"),
    ):
        train(config, tmp_path / "out", ON_CPU)
    assert not (tmp_path / "out.partial").exists()


def test_a_disk_that_says_no_is_told_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(tmp_path, write_lessons(tmp_path, "audio", 8))

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "there")

    monkeypatch.setattr("omnicompose.training.train.open_work", full)
    with pytest.raises(TrainingError, match=r"there: No space left on device\. Make room"):
        train(config, tmp_path / "out", ON_CPU)
