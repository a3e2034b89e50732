"""The story in one screen: read the recipe, open the experts, plan, merge, assemble, write."""

from importlib.metadata import version
from pathlib import Path

from omnicompose.assembly import check_loads, composite_config, make_processor, write_model_files
from omnicompose.card_licences import stated_licences
from omnicompose.composer_build import ComposeOptions, ComposeResult, Work, build
from omnicompose.export import refuse_existing
from omnicompose.export_code import add_code
from omnicompose.merging.options import Report
from omnicompose.model_card import CARD_FILE, CardFacts, model_card
from omnicompose.plan import CompositePlan, make_plan
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
    refuse_existing(out, overwrite=options.overwrite, resume=options.resume)
    plan = make_plan(recipe)
    config = composite_config(plan)
    check_loads(config, plan)
    make_processor(plan)  # What it lacks shows now, not after the merge.

    licences = {"licences": stated_licences(plan.setting.folders())}

    def write_files(folder: Path) -> None:
        write_model_files(config, plan, folder)
        add_code(folder)
        (folder / CARD_FILE).write_text(_card(plan, licences), encoding="utf-8")

    work = Work(
        kind="composite",
        recipe=recipe,
        plan=plan.plan,
        folders=plan.setting.folders(),
        facts=lambda measures: plan.facts(measures) | licences,
    )
    return build(work, out, options, report, write_files)


def _card(plan: CompositePlan, licences: dict[str, dict[str, str | None]]) -> str:
    """The model card of what is not measured yet; `omnicompose export` adds results."""
    return model_card(
        CardFacts(
            recipe=plan.setting.recipe.model_dump(mode="json"),
            facts=plan.facts() | licences,
            modalities=plan.modalities(),
            plan_sha256=plan.plan.digest(),
            version=version("omnicompose"),
            transformers=version("transformers"),
        )
    )
