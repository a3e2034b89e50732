"""What `compose` and `merge` share: their options, the run of the engine, the manifest."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from omnicompose.experts.tokens import TOKENIZER_FILE
from omnicompose.export import FileRecord, Manifest, hash_folder
from omnicompose.merging.engine import run_merge
from omnicompose.merging.options import EngineOptions, MergeResult, Report
from omnicompose.plan import Plan
from omnicompose.recipe import ComposeRecipe, MergeRecipe
from omnicompose.tensors.adapter_config import CONFIG as ADAPTER_CONFIG
from omnicompose.tensors.journal import JOURNAL_NAME
from omnicompose.tensors.pickled import SUFFIXES

DEFAULT_MEMORY_BYTES = 2 * 1024**3
Recipe = TypeVar("Recipe", ComposeRecipe, MergeRecipe)


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposeOptions:
    """How a folder is built; none of it changes a byte of the tensors.

    Attributes:
        resume: go on with an interrupted run of the same plan.
        overwrite: replace an output folder that exists.
        memory_bytes: hard limit of the engine's buffers.
        device: where the arithmetic runs.
        allow_pickle: as if the recipe said so.
        trust_remote_code: as if the recipe said so.
        allow_nonfinite: as if the recipe said so.
    """

    resume: bool = False
    overwrite: bool = False
    memory_bytes: int = DEFAULT_MEMORY_BYTES
    device: str = "cpu"
    allow_pickle: bool = False
    trust_remote_code: bool = False
    allow_nonfinite: bool = False

    def permit(self, recipe: Recipe) -> Recipe:
        """The recipe with what is allowed here allowed in it too; the manifest will say so."""
        allowed = {
            "allow_pickle": recipe.allow_pickle or self.allow_pickle,
            "trust_remote_code": recipe.trust_remote_code or self.trust_remote_code,
            "allow_nonfinite": recipe.allow_nonfinite or self.allow_nonfinite,
        }
        return recipe.model_copy(update=allowed)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A planned folder.

    Attributes:
        kind: `composite` or `merge`, for the manifest.
        recipe: what was asked for.
        plan: every tensor.
        folders: every folder that was opened, by how the user named it.
        facts: for the manifest, from what was measured while tensors were written.
    """

    kind: str
    recipe: ComposeRecipe | MergeRecipe
    plan: Plan
    folders: Mapping[str, Path]
    facts: Callable[[Mapping[str, Mapping[str, float]]], dict[str, object]]


def build(
    work: Work,
    out: Path,
    options: ComposeOptions,
    report: Report | None,
    write_files: Callable[[Path], None],
) -> ComposeResult:
    """Compute every tensor and leave one finished folder with its manifest.

    Args:
        work: what is planned.
        out: the folder to make.
        options: how to build.
        report: called with the progress of the merge.
        write_files: puts what is not weights into the folder, before it is hashed.

    Raises:
        MergeError: a tensor cannot be merged or written.
    """
    manifests: list[Manifest] = []

    def assemble(folder: Path, result: MergeResult) -> None:
        write_files(folder)
        manifests.append(_write_manifest(work, folder, result))

    engine_options = _engine_options(work.recipe, options)
    result = run_merge(work.plan.jobs, out, engine_options, report, assemble)
    return ComposeResult(
        out=out,
        manifest=manifests[0],
        seconds=result.seconds,
        bytes_written=result.bytes_written,
        peak_buffer_bytes=result.peak_buffer_bytes,
    )


def _engine_options(recipe: ComposeRecipe | MergeRecipe, options: ComposeOptions) -> EngineOptions:
    """The caller's options, with what the recipe says about files and values."""
    return EngineOptions(
        memory_bytes=options.memory_bytes,
        device=options.device,
        resume=options.resume,
        overwrite=options.overwrite,
        shard_bytes=recipe.shard_size,
        allow_nonfinite=recipe.allow_nonfinite,
    )


def _write_manifest(work: Work, folder: Path, result: MergeResult) -> Manifest:
    weights = tuple(
        FileRecord(path=file.name, num_bytes=file.num_bytes, sha256=file.sha256)
        for file in result.files
    )
    # The engine's journal will be gone.
    known = {record.path for record in weights} | {JOURNAL_NAME}
    manifest = Manifest(
        kind=work.kind,
        recipe=work.recipe.model_dump(mode="json"),
        plan_sha256=work.plan.digest(),
        inputs=input_records(work.recipe, work.folders),
        outputs=(*weights, *(file for file in hash_folder(folder) if file.path not in known)),
        facts=work.facts(result.measures),
    )
    manifest.write(folder)
    return manifest


def input_records(
    recipe: ComposeRecipe | MergeRecipe, folders: Mapping[str, Path]
) -> tuple[FileRecord, ...]:
    """Every file that a plan may read tensors or tokens from, hashed, as the recipe names it."""
    suffixes = (".safetensors", ADAPTER_CONFIG, *(SUFFIXES if recipe.allow_pickle else ()))
    if recipe.vocabulary == "union":
        suffixes = (*suffixes, TOKENIZER_FILE)
    return tuple(
        record
        for label, source in folders.items()
        for record in hash_folder(source, suffixes, label)
    )
