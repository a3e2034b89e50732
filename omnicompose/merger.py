"""`omnicompose merge`: fine-tunes of one architecture, or any safetensors, become one folder."""

from collections.abc import Callable
from pathlib import Path

from omnicompose.bundle import MODEL_FOLDER, write_bundle_file
from omnicompose.composer_build import ComposeOptions, ComposeResult, Work, build
from omnicompose.export import refuse_existing
from omnicompose.merger_files import write_model_files
from omnicompose.merging.options import Report
from omnicompose.merging.searched import SEARCHED
from omnicompose.plan.merge_plan import make_merge_plan
from omnicompose.recipe import MergeRecipe, read_merge_recipe


def merge(
    recipe_path: Path,
    out: Path,
    options: ComposeOptions | None = None,
    report: Report | None = None,
    say: Callable[[str], None] = lambda _line: None,
) -> ComposeResult:
    """Merge the models that a recipe names and leave one finished folder.

    Configuration, tokenizer and processor are the base's, or the first model's without a base.

    Args:
        recipe_path: a YAML file.
        out: the folder to make.
        options: how to build.
        report: called with the progress of the merge.
        say: takes one line of progress of what happens on data before it.

    Raises:
        RecipeError: the recipe is malformed.
        SourceError: a model cannot be opened.
        PlanError: the models do not fit together.
        ExportError: the output folder exists.
        MergeError: a tensor cannot be merged or written.
    """
    options = options or ComposeOptions()
    refuse_existing(out, overwrite=options.overwrite, resume=options.resume)
    recipe = options.permit(read_merge_recipe(recipe_path))
    if recipe.method in SEARCHED or any(model.data is not None for model in recipe.models):
        recipe = _with_data(recipe, out, say)
    plan = make_merge_plan(recipe)

    def write_files(folder: Path) -> None:
        bundle = plan.recipe.output == "bundle"
        if bundle:
            write_bundle_file(plan, folder)
        if plan.recipe.layout == "model":
            # Beside a bundle's weights they would make it look like a model.
            place = folder / MODEL_FOLDER if bundle else folder
            place.mkdir(exist_ok=True)
            write_model_files(plan, place)

    work = Work(
        kind="merge",
        recipe=plan.recipe,
        plan=plan.plan,
        folders=plan.folders(),
        facts=lambda _measures: plan.facts(),
    )
    return build(work, out, options, report, write_files)


def _with_data(recipe: MergeRecipe, out: Path, say: Callable[[str], None]) -> MergeRecipe:
    """What data make of a recipe: coefficients searched, or statistics collected, beside `out`."""
    # Models are run for this; a merge of weights alone does without.
    from omnicompose.searching.search import searched
    from omnicompose.statistics.provide import with_statistics

    found = searched(recipe, out.with_name(f"{out.name}.search"), say)
    return with_statistics(found, out.with_name(f"{out.name}.statistics"), say)
