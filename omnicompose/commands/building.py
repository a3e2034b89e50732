"""Commands that build: plan, compose, merge, verify, quickstart.

Heavy modules are imported inside the commands, after everything that can be checked without them.
"""

from pathlib import Path

from omnicompose.commands.options import (
    DEFAULT_MEMORY,
    AsJson,
    Device,
    Memory,
    ModelDir,
    Out,
    Overwrite,
    RecipeFile,
    Resume,
)
from omnicompose.commands.output import say, show, show_json
from omnicompose.commands.progress import merge_progress


def quickstart(out: Out = Path("quickstart"), overwrite: Overwrite = False) -> None:
    """Compose the zoo's experts, evaluate them together and alone, and show the table."""
    from omnicompose.quickstart import run_quickstart

    show(run_quickstart(out, say=say, overwrite=overwrite).render())


def plan(recipe: RecipeFile, as_json: AsJson = False) -> None:
    """Show what becomes of every tensor, before any is read."""
    from omnicompose.recipe import ComposeRecipe, read_recipe

    asked = read_recipe(recipe)  # before the heavy imports: mistakes show at once
    from omnicompose.plan import make_merge_plan, make_plan, render_plan

    decided = make_plan(asked) if isinstance(asked, ComposeRecipe) else make_merge_plan(asked)
    show_json(decided.to_json()) if as_json else show(render_plan(decided))


def compose(
    recipe: RecipeFile,
    out: Out,
    resume: Resume = False,
    overwrite: Overwrite = False,
    memory: Memory = DEFAULT_MEMORY,
    device: Device = "cpu",
) -> None:
    """Build the composite that RECIPE describes."""
    from omnicompose.export import refuse_existing
    from omnicompose.recipe import read_compose_recipe

    # Before the heavy imports, so that mistakes show at once.
    read_compose_recipe(recipe)
    refuse_existing(out, overwrite=overwrite)
    from omnicompose.composer import ComposeOptions
    from omnicompose.composer import compose as build

    options = ComposeOptions(resume=resume, overwrite=overwrite, memory_bytes=memory, device=device)
    with merge_progress() as report:
        result = build(recipe, out, options, report)
    say(f"{out}: {result.bytes_written / 1e6:,.1f} MB in {result.seconds:.1f} s.")


def merge(
    recipe: RecipeFile,
    out: Out,
    resume: Resume = False,
    overwrite: Overwrite = False,
    memory: Memory = DEFAULT_MEMORY,
    device: Device = "cpu",
) -> None:
    """Merge the models that RECIPE names: one architecture, or any safetensors."""
    from omnicompose.export import refuse_existing
    from omnicompose.recipe import read_merge_recipe

    # Before the heavy imports, so that mistakes show at once.
    read_merge_recipe(recipe)
    refuse_existing(out, overwrite=overwrite)
    from omnicompose.composer import ComposeOptions
    from omnicompose.merger import merge as build

    options = ComposeOptions(resume=resume, overwrite=overwrite, memory_bytes=memory, device=device)
    with merge_progress() as report:
        result = build(recipe, out, options, report)
    say(f"{out}: {result.bytes_written / 1e6:,.1f} MB in {result.seconds:.1f} s.")


def verify(folder: ModelDir) -> None:
    """Check every hash in the manifest and compute sampled rows again."""
    from omnicompose.errors import ExportError
    from omnicompose.export import verify as problems_of

    problems = problems_of(folder)
    if problems:
        raise ExportError("\n".join(problems))
    say(f"{folder}: everything is as its manifest says.")
