"""Make the capability zoo from nothing.

python -m omnicompose.zoo.capabilities.train [--only NAME ...] [--out DIR] [--seed N]

Pictures and encoder first, then the base, then the fine-tunes, two at a time, one thread each, all
of them by `omnicompose train`. What DIR already holds is not made again: delete a folder to make it
anew.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from omnicompose.errors import TrainingError
from omnicompose.zoo.capabilities.plan import BASE, MEDIA, STAGES, config_of
from omnicompose.zoo.catalog import SCHEME

NUM_WORKERS = 2
WORK = ".work"
"""What does not ship: lessons, the encoder, the checkpoint that training starts from."""
_CALM = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
_NOT_SHIPPED = ("training",)


def train_capabilities(out: Path, names: Sequence[str], seed: int = 0) -> None:
    """Make the named members and whatever they need that is missing.

    Args:
        out: the folder that becomes a zoo.
        names: members of `STAGES`.
        seed: of everything random; another seed gives another zoo.

    Raises:
        TrainingError: an unknown member.
    """
    if unknown := [name for name in names if name not in STAGES]:
        raise TrainingError(
            f"--only: {unknown[0]!r} is no member of the capability zoo; expected one of "
            f"{', '.join(STAGES)}."
        )
    os.environ.update(_CALM)  # before torch is imported
    (out / WORK).mkdir(parents=True, exist_ok=True)
    _prepare(out, seed)
    if names == [MEDIA]:
        return
    _make(BASE, out, seed)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(NUM_WORKERS, context) as pool:
        rest = [name for name in names if name not in (BASE, MEDIA)]
        for made in [pool.submit(_make, name, out, seed) for name in rest]:
            made.result()


def _prepare(out: Path, seed: int) -> None:
    """Held-out pictures, lessons, encoder and start, each once."""
    from omnicompose.zoo.capabilities.encoder import train_encoder
    from omnicompose.zoo.capabilities.lessons import write_held_out, write_lessons
    from omnicompose.zoo.capabilities.start import write_start

    work = out / WORK
    held_out = out / MEDIA / "held-out.zip"
    if not held_out.is_file():
        write_held_out(held_out, seed)
    if not (work / "lessons" / "text.jsonl").is_file():
        write_lessons(work / "lessons", held_out, seed)
    if not (work / "encoder" / "model.safetensors").is_file():
        train_encoder(work / "encoder", held_out, seed)
    if not (work / "start" / "config.json").is_file():
        write_start(work / "start", work / "encoder", seed)


def _make(name: str, out: Path, seed: int) -> None:
    """Train one member by `omnicompose train`, and make it fit to ship."""
    from omnicompose.training.config import TrainConfig
    from omnicompose.training.train import TrainOptions, train

    folder = out / name
    if folder.is_dir():
        return
    start = out / WORK / "start" if name == BASE else out / BASE
    content = config_of(name, start, seed)
    config = TrainConfig.model_validate(content, context={"folder": out / WORK / "lessons"})
    made = out / WORK / name
    train(config, made, TrainOptions(overwrite=True, device="cpu"))
    for left in _NOT_SHIPPED:
        shutil.rmtree(made / left, ignore_errors=True)
    _name_base(made / "adapter_config.json")
    made.rename(folder)


def _name_base(path: Path) -> None:
    """An adapter names its base as the zoo does, wherever it was made."""
    if path.is_file():
        content = json.loads(path.read_text(encoding="utf-8"))
        content["base_model_name_or_path"] = SCHEME + BASE
        path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m omnicompose.zoo.capabilities.train", description=__doc__
    )
    parser.add_argument("--only", nargs="+", default=list(STAGES), metavar="NAME")
    parser.add_argument("--out", type=Path, default=Path("zoo"), metavar="DIR")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    asked = parser.parse_args(arguments)
    try:
        train_capabilities(asked.out, asked.only, asked.seed)
    except TrainingError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
