"""`omnicompose merge`: fine-tunes of one architecture, or any safetensors, become one folder."""

import json
import shutil
from pathlib import Path

from omnicompose.composer_build import ComposeOptions, ComposeResult, Work, build
from omnicompose.export import refuse_existing
from omnicompose.merging.options import Report
from omnicompose.plan.merge_plan import MergePlan, make_merge_plan
from omnicompose.recipe import read_merge_recipe

WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".index.json")
"""Files of a model folder that are weights or say where weights lie."""


def merge(
    recipe_path: Path,
    out: Path,
    options: ComposeOptions | None = None,
    report: Report | None = None,
) -> ComposeResult:
    """Merge the models that a recipe names and leave one finished folder.

    Configuration, tokenizer and processor are the base's, or the first model's without a base.

    Args:
        recipe_path: a YAML file.
        out: the folder to make.
        options: how to build.
        report: called with the progress of the merge.

    Raises:
        RecipeError: the recipe is malformed.
        SourceError: a model cannot be opened.
        PlanError: the models do not fit together.
        ExportError: the output folder exists.
        MergeError: a tensor cannot be merged or written.
    """
    options = options or ComposeOptions()
    refuse_existing(out, overwrite=options.overwrite)
    plan = make_merge_plan(options.permit(read_merge_recipe(recipe_path)))

    def write_files(folder: Path) -> None:
        if plan.recipe.layout == "model":
            copy_model_files(plan, folder)

    work = Work(
        kind="merge",
        recipe=plan.recipe,
        plan=plan.plan,
        folders=plan.folders(),
        facts=plan.facts(),
    )
    return build(work, out, options, report, write_files)


def copy_model_files(plan: MergePlan, folder: Path) -> None:
    """Copy what is not weights from the donor; `config.json` says the new precision."""
    for path in sorted(plan.donor.folder.iterdir()):
        if path.is_file() and not path.name.endswith(WEIGHT_SUFFIXES):
            shutil.copyfile(path, folder / path.name)
    if plan.recipe.dtype is not None:
        _set_dtype(folder / "config.json", plan.recipe.dtype)


def _set_dtype(path: Path, dtype: str) -> None:
    config = json.loads(path.read_text(encoding="utf-8"))
    # transformers before 5 wrote `torch_dtype`.
    config["torch_dtype" if "torch_dtype" in config else "dtype"] = dtype
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
