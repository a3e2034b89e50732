"""The story in one screen: read the recipe, open the experts, plan, merge, assemble, write."""

from pathlib import Path

from omnicompose.assembly import check_loads, composite_config, write_model_files
from omnicompose.composer_build import ComposeOptions, ComposeResult, Work, build
from omnicompose.export import refuse_existing
from omnicompose.merging.options import Report
from omnicompose.model_card import write_model_card
from omnicompose.plan import make_plan
from omnicompose.recipe import read_compose_recipe

__all__ = ["ComposeOptions", "ComposeResult", "compose"]


def compose(
    recipe_path: Path,
    out: Path,
    options: ComposeOptions | None = None,
    report: Report | None = None,
) -> ComposeResult:
    """Build the composite that a recipe describes and leave one finished folder.

    Args:
        recipe_path: a YAML file.
        out: the folder to make.
        options: how to build.
        report: called with the progress of the merge.

    Raises:
        RecipeError: the recipe is malformed.
        SourceError: an expert cannot be opened.
        PlanError: the experts do not fit together.
        MergeError: a tensor cannot be merged or written.
        ExportError: the output folder exists.
    """
    options = options or ComposeOptions()
    recipe = options.permit(read_compose_recipe(recipe_path))
    refuse_existing(out, overwrite=options.overwrite)
    plan = make_plan(recipe)
    config = composite_config(plan)
    check_loads(config, plan)

    def write_files(folder: Path) -> None:
        write_model_files(config, plan, folder)
        write_model_card(plan, folder)

    work = Work(
        kind="composite",
        recipe=recipe,
        plan=plan.plan,
        folders=plan.setting.folders(),
        facts=plan.facts,
    )
    return build(work, out, options, report, write_files)
