"""The story in one screen: read the recipe, open the experts, plan, merge, assemble, write."""

from dataclasses import dataclass
from pathlib import Path

from omnicompose.assembly import check_loads, composite_config, write_model_files
from omnicompose.export import FileRecord, Manifest, hash_folder, refuse_existing
from omnicompose.merging.engine import run_merge
from omnicompose.merging.options import EngineOptions, MergeResult, Report
from omnicompose.model_card import write_model_card
from omnicompose.plan import CompositePlan, make_plan
from omnicompose.recipe import read_compose_recipe
from omnicompose.tensors.journal import JOURNAL_NAME

DEFAULT_MEMORY_BYTES = 2 * 1024**3


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposeOptions:
    """How a composite is built; none of it changes a byte of the result.

    Attributes:
        resume: go on with an interrupted run of the same plan.
        overwrite: replace an output folder that exists.
        memory_bytes: hard limit of the engine's buffers.
        device: where the arithmetic runs.
    """

    resume: bool = False
    overwrite: bool = False
    memory_bytes: int = DEFAULT_MEMORY_BYTES
    device: str = "cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposeResult:
    """What was written.

    Attributes:
        out: the finished folder.
        manifest: what it is made of.
        seconds: wall time of the merge.
        bytes_written: of tensors.
        peak_buffer_bytes: most memory that the engine's buffers held.
    """

    out: Path
    manifest: Manifest
    seconds: float
    bytes_written: int
    peak_buffer_bytes: int


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
    recipe = read_compose_recipe(recipe_path)
    refuse_existing(out, overwrite=options.overwrite)
    plan = make_plan(recipe)
    config = composite_config(plan)
    check_loads(config, plan)
    manifests: list[Manifest] = []

    def assemble(folder: Path, result: MergeResult) -> None:
        write_model_files(config, plan, folder)
        write_model_card(plan, folder)
        manifests.append(write_manifest(plan, folder, result))

    result = run_merge(plan.plan.jobs, out, engine_options(plan, options), report, assemble)
    return ComposeResult(
        out=out,
        manifest=manifests[0],
        seconds=result.seconds,
        bytes_written=result.bytes_written,
        peak_buffer_bytes=result.peak_buffer_bytes,
    )


def engine_options(plan: CompositePlan, options: ComposeOptions) -> EngineOptions:
    """The engine's options: the caller's, with what the recipe says about files and values."""
    recipe = plan.setting.recipe
    return EngineOptions(
        memory_bytes=options.memory_bytes,
        device=options.device,
        resume=options.resume,
        overwrite=options.overwrite,
        shard_bytes=recipe.shard_size,
        allow_nonfinite=recipe.allow_nonfinite,
    )


def write_manifest(plan: CompositePlan, folder: Path, result: MergeResult) -> Manifest:
    """Hash every input and every file of `folder`, and write the manifest beside them."""
    weights = [
        FileRecord(path=file.name, num_bytes=file.num_bytes, sha256=file.sha256)
        for file in result.files
    ]
    manifest = Manifest(
        kind="composite",
        recipe=plan.setting.recipe.model_dump(mode="json"),
        plan_sha256=plan.plan.digest(),
        inputs=tuple(
            record
            for label, source in plan.setting.folders().items()
            for record in hash_folder(source, "*.safetensors", label)
        ),
        outputs=(*weights, *other_files(folder, {record.path for record in weights})),
        facts=plan.facts(),
    )
    manifest.write(folder)
    return manifest


def other_files(folder: Path, weights: set[str]) -> list[FileRecord]:
    """Records of what was assembled beside the weights; the engine's journal will be gone."""
    hidden = weights | {JOURNAL_NAME}
    return [record for record in hash_folder(folder, "*") if record.path not in hidden]
