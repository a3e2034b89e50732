"""The end of a training: the result is put together beside its place, and moved there at once."""

import json
import shutil
from importlib.metadata import version
from pathlib import Path

import torch

from omnicompose.experts.config import read_json
from omnicompose.experts.resolve import resolve
from omnicompose.training.config import TrainConfig
from omnicompose.training.curve import write_curve
from omnicompose.training.loop import load_learned
from omnicompose.training.stages import name_of
from omnicompose.training.strategies import DTYPES
from omnicompose.training.subject import Subject
from omnicompose.training.work import Work
from omnicompose.training.write_expert import write_expert
from omnicompose.training.write_host import write_host

NOTES = "training"
"""The sub-folder with the configuration and the loss curve."""
PACKAGES = ("omnicompose", "torch", "transformers", "peft", "accelerate")


def finish(config: TrainConfig, subject: Subject, work: Work, out: Path) -> None:
    """Write the result and take the working folder away.

    Args:
        config: what was asked.
        subject: without or with the weights that were learned; those in `work` count.
        work: holds every stage.
        out: the folder to be.
    """
    shutil.rmtree(work.result, ignore_errors=True)
    for place in range(len(config.stages)):  # gathered weights, where training spread them
        load_learned(subject.model, work.weights(place))
    writer = write_expert if config.encoder else write_host
    writer(work.result, subject, config, _dtype(config))
    notes = work.result / NOTES
    notes.mkdir()
    write_curve(notes, {name_of(n, stage): work.curve(n) for n, stage in enumerate(config.stages)})
    facts = {
        "config": config.model_dump(mode="json"),
        "versions": {package: version(package) for package in PACKAGES},
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
