"""The command that searches coefficients."""

from pathlib import Path
from typing import Annotated, cast

import typer

from omnicompose.commands.options import BatchSize, Limit, Out, RecipeFile, Seed
from omnicompose.commands.output import say, show

Names = Annotated[str, typer.Option("--task", "--tasks", help="Benchmarks, joined by commas.")]
Prompts = Annotated[
    Path | None, typer.Option("--unlabelled", help="Prompts to search on, as JSON lines.")
]
Aim = Annotated[str, typer.Option(help="likelihood, agreement or entropy.")]
How = Annotated[str, typer.Option(help="grid, cma or bayes.")]
Knots = Annotated[int, typer.Option(help="Coefficients per expert, over the depth.")]
Tries = Annotated[int, typer.Option(help="Candidates, 1/N among them.")]
Share = Annotated[float, typer.Option(help="Share of the questions to search on.")]


def tune(
    recipe: RecipeFile,
    out: Out,
    task: Names,
    unlabelled: Prompts = None,
    objective: Aim = "likelihood",
    search: How = "cma",
    knots: Knots = 1,
    evaluations: Tries = 40,
    validation: Share = 0.3,
    limit: Limit = None,
    batch_size: BatchSize = 64,
    seed: Seed = 0,
) -> None:
    """Search the coefficients of RECIPE's text side. The tuned recipe is written."""
    from omnicompose.recipe import read_compose_recipe
    from omnicompose.tuning.options import Objective, Place, Search, TuneOptions

    options = TuneOptions(
        tasks=tuple(name for name in task.split(",") if name),
        objective=cast(Objective, objective),
        search=cast(Search, search),
        knots=knots,
        evaluations=evaluations,
        limit=limit,
        validation=validation,
        batch_size=batch_size,
        seed=seed,
    )
    read_compose_recipe(recipe)  # before the heavy imports: mistakes show at once
    from omnicompose.tuning.tune import tune as run

    show(run(Place(recipe=recipe, out=out), options, say, unlabelled).render())
    say(f"{out}: tuned.yaml is the recipe to compose, tuning.json holds every candidate.")
