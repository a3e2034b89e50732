"""`omnicompose merge`: fine-tunes of one architecture, or any safetensors, become one folder."""

import json
import shutil
from pathlib import Path

from omnicompose.composer import ComposeOptions, ComposeResult, other_files
from omnicompose.export import FileRecord, Manifest, hash_folder, refuse_existing
from omnicompose.merging.engine import run_merge
from omnicompose.merging.options import EngineOptions, MergeResult, Report
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

    Raises:
        RecipeError: the recipe is malformed.
        SourceError: a model cannot be opened.
        PlanError: the models do not fit together.
        ExportError: the output folder exists.
        MergeError: a tensor cannot be merged or written.
    """
    options = options or ComposeOptions()
    refuse_existing(out, overwrite=options.overwrite)
    plan = make_merge_plan(read_merge_recipe(recipe_path))
    manifests: list[Manifest] = []

    def assemble(folder: Path, result: MergeResult) -> None:
        if plan.recipe.layout == "model":
            copy_model_files(plan, folder)
        manifests.append(_write_manifest(plan, folder, result))

    result = run_merge(plan.plan.jobs, out, _engine_options(plan, options), report, assemble)
    return ComposeResult(
        out=out,
        manifest=manifests[0],
        seconds=result.seconds,
        bytes_written=result.bytes_written,
        peak_buffer_bytes=result.peak_buffer_bytes,
    )


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


def _engine_options(plan: MergePlan, options: ComposeOptions) -> EngineOptions:
    return EngineOptions(
        memory_bytes=options.memory_bytes,
        device=options.device,
        resume=options.resume,
        overwrite=options.overwrite,
        shard_bytes=plan.recipe.shard_size,
        allow_nonfinite=plan.recipe.allow_nonfinite,
    )


def _write_manifest(plan: MergePlan, folder: Path, result: MergeResult) -> Manifest:
    weights = [
        FileRecord(path=file.name, num_bytes=file.num_bytes, sha256=file.sha256)
        for file in result.files
    ]
    manifest = Manifest(
        kind="merge",
        recipe=plan.recipe.model_dump(mode="json"),
        plan_sha256=plan.plan.digest(),
        inputs=tuple(
            record
            for label, source in plan.folders().items()
            for record in hash_folder(source, "*.safetensors", label)
        ),
        outputs=(*weights, *other_files(folder, {record.path for record in weights})),
        facts=plan.facts(),
    )
    manifest.write(folder)
    return manifest
