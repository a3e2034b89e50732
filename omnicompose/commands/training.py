"""The command that trains an expert."""

from pathlib import Path
from typing import Annotated

import typer

from omnicompose.commands.options import Out, Overwrite, Resume
from omnicompose.commands.output import say
from omnicompose.commands.progress import training_progress

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="The training, a YAML file.")]
Where = Annotated[
    str | None, typer.Option("--device", help="cpu, or what accelerate finds if left out.")
]


def train(
    config: ConfigFile,
    out: Out,
    resume: Resume = False,
    overwrite: Overwrite = False,
    device: Where = None,
) -> None:
    """Train an expert as CONFIG says.

    What learns: its connector, LoRA, decoupled LoRA, or all weights.
    """
    from omnicompose.export import refuse_existing
    from omnicompose.training.config import read_train_config

    # Before the heavy imports, so that mistakes show at once.
    asked = read_train_config(config)
    refuse_existing(out, overwrite=overwrite)
    from transformers.utils import logging

    from omnicompose.training.train import TrainOptions
    from omnicompose.training.train import train as run
    from omnicompose.zoo.generators import GENERATORS

    logging.disable_progress_bar()  # transformers' own, of loading and saving
    options = TrainOptions(resume=resume, overwrite=overwrite, device=device)
    with training_progress() as progress:
        result = run(asked, out, options, progress, GENERATORS)
    losses = ", ".join(f"{name} {loss:.4f}" for name, loss in result.losses.items())
    say(f"{out}: trained in {result.seconds:.0f} s; last losses: {losses}.")
