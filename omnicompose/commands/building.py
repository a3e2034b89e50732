"""Commands that build: plan, compose, merge, verify, quickstart.

Heavy modules are imported inside the commands, after everything that can be checked without them.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from omnicompose.commands.options import (
    DEFAULT_MEMORY,
    AllowNonfinite,
    AllowPickle,
    AsJson,
    Device,
    EveryTensor,
    HashesOnly,
    Inputs,
    Memory,
    ModelDir,
    Out,
    Overwrite,
    RecipeFile,
    Resume,
    TrustRemoteCode,
)
from omnicompose.commands.output import say, show, show_json
from omnicompose.commands.progress import merge_progress

if TYPE_CHECKING:
    from omnicompose.composer import ComposeOptions, ComposeResult
    from omnicompose.merging.options import Report

    Builder = Callable[[Path, Path, ComposeOptions, Report], ComposeResult]


def quickstart(out: Out = Path("quickstart"), overwrite: Overwrite = False) -> None:
    """Compose the zoo's experts and evaluate them, in a table. Together, and each one alone."""
    from omnicompose.quickstart import run_quickstart

    result = run_quickstart(out, say=say, overwrite=overwrite)
    show(result.render())
    typer.echo(result.closing())


def plan(
    recipe: RecipeFile,
    as_json: AsJson = False,
    allow_pickle: AllowPickle = False,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Show what becomes of every tensor, before any is read."""
    from omnicompose.experts.preflight import look_first
    from omnicompose.recipe import ComposeRecipe, read_recipe

    # Before the heavy imports, so that mistakes show at once.
    asked = read_recipe(recipe)
    if isinstance(asked, ComposeRecipe):
        look_first(asked)
    from omnicompose.composer_build import ComposeOptions
    from omnicompose.plan import (
        CompositePlan,
        MergePlan,
        make_merge_plan,
        make_plan,
        render_plan,
    )

    options = ComposeOptions(allow_pickle=allow_pickle, trust_remote_code=trust_remote_code)
    decided: CompositePlan | MergePlan
    if isinstance(asked, ComposeRecipe):
        from omnicompose.assembly import check_loads, composite_config, make_processor

        decided = make_plan(options.permit(asked))
        check_loads(composite_config(decided), decided)
        make_processor(decided)
    else:
        decided = make_merge_plan(options.permit(asked))
    show_json(decided.to_json()) if as_json else show(render_plan(decided))


def compose(
    recipe: RecipeFile,
    out: Out,
    resume: Resume = False,
    overwrite: Overwrite = False,
    memory: Memory = DEFAULT_MEMORY,
    device: Device = "cpu",
    allow_pickle: AllowPickle = False,
    trust_remote_code: TrustRemoteCode = False,
    allow_nonfinite: AllowNonfinite = False,
) -> None:
    """Build the composite that RECIPE describes."""
    from omnicompose.experts.preflight import look_first
    from omnicompose.export import refuse_existing
    from omnicompose.recipe import read_compose_recipe

    # Before the heavy imports, so that mistakes show at once.
    asked = read_compose_recipe(recipe)
    refuse_existing(out, overwrite=overwrite, resume=resume)
    look_first(asked)
    from omnicompose.composer import ComposeOptions
    from omnicompose.composer import compose as build

    options = ComposeOptions(
        resume=resume,
        overwrite=overwrite,
        memory_bytes=memory,
        device=device,
        allow_pickle=allow_pickle,
        trust_remote_code=trust_remote_code,
        allow_nonfinite=allow_nonfinite,
    )
    _build(build, recipe, out, options)


def merge(
    recipe: RecipeFile,
    out: Out,
    resume: Resume = False,
    overwrite: Overwrite = False,
    memory: Memory = DEFAULT_MEMORY,
    device: Device = "cpu",
    allow_pickle: AllowPickle = False,
    trust_remote_code: TrustRemoteCode = False,
    allow_nonfinite: AllowNonfinite = False,
) -> None:
    """Merge the models that RECIPE names. One architecture, or any safetensors."""
    from omnicompose.export import refuse_existing
    from omnicompose.recipe import read_merge_recipe

    # Before the heavy imports, so that mistakes show at once.
    read_merge_recipe(recipe)
    refuse_existing(out, overwrite=overwrite, resume=resume)
    from omnicompose.composer import ComposeOptions
    from omnicompose.merger import merge as build

    options = ComposeOptions(
        resume=resume,
        overwrite=overwrite,
        memory_bytes=memory,
        device=device,
        allow_pickle=allow_pickle,
        trust_remote_code=trust_remote_code,
        allow_nonfinite=allow_nonfinite,
    )
    _build(partial(build, say=say), recipe, out, options)


def _build(build: "Builder", recipe: Path, out: Path, options: "ComposeOptions") -> None:
    """Run `compose` or `merge` under a progress bar, and say what was written."""
    with merge_progress() as report:
        result = build(recipe, out, options, report)
    say(f"{out}: {result.bytes_written / 1e6:,.1f} MB in {result.seconds:.1f} s.")


def verify(
    folder: ModelDir,
    inputs: Inputs = None,
    hashes_only: HashesOnly = False,
    every_tensor: EveryTensor = False,
) -> None:
    """Check a folder against its manifest and its inputs.

    Every hash in the manifest is checked, and sampled rows are computed from the inputs again.
    """
    from omnicompose.errors import ExportError
    from omnicompose.export import verify as problems_of

    problems = problems_of(folder)
    if problems:
        raise ExportError("\n".join(problems))
    if hashes_only:
        say(f"{folder}: every file has the size and sha256 that the manifest says.")
        return
    from omnicompose.verification import recompute

    say(recompute(folder, inputs, every_tensor=every_tensor).render())
