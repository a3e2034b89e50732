"""Does a written folder hold what its recipe gives? Sampled rows are computed from the inputs."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from omnicompose.composer_build import input_records
from omnicompose.errors import ExportError, OmniComposeError
from omnicompose.export import FileRecord, Manifest
from omnicompose.merging.options import EngineOptions
from omnicompose.merging.recomputing import COSTLY_BYTES, differences, sample
from omnicompose.plan import Plan, make_merge_plan, make_plan
from omnicompose.recipe import ComposeRecipe, MergeRecipe, recipe_from_manifest
from omnicompose.tensors.checkpoint import open_safetensors
from omnicompose.tensors.source import TensorSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What was computed again and found to be as written.

    Attributes:
        folder: the written folder.
        num_tensors: of the output.
        num_checked: of them, those of which something was computed again.
        num_elements: elements computed again.
    """

    folder: Path
    num_tensors: int
    num_checked: int
    num_elements: int

    def render(self) -> str:
        """One line for people."""
        return (
            f"{self.folder}: everything is as its manifest says; {self.num_elements:,} elements of "
            f"{self.num_checked} of {self.num_tensors} tensors were computed from the inputs again."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Inputs:
    """The recipe of a manifest, planned on inputs that are what it read."""

    recipe: ComposeRecipe | MergeRecipe
    plan: Plan


def recompute(folder: Path, inputs: Path | None = None, *, every_tensor: bool = False) -> Verified:
    """Compute sampled rows of a written folder from the inputs that its manifest names.

    Args:
        folder: written by `compose` or `merge`, its hashes checked already.
        inputs: where relative paths of the recipe start; by default the current folder or the one
            around `folder`, whichever has the inputs.
        every_tensor: leave out no tensor, however much must be read for it.

    Raises:
        ExportError: an input is not there or has changed, or a row is not what the inputs give.
    """
    manifest = Manifest.read(folder)
    found = _find_inputs(folder, manifest, inputs)
    written = open_safetensors(folder)
    _check_outputs(folder, manifest, found.plan, written)
    jobs = found.plan.jobs
    spans = sample(jobs, manifest.plan_sha256, None if every_tensor else COSTLY_BYTES)
    options = EngineOptions(allow_nonfinite=found.recipe.allow_nonfinite)
    problems = list(differences(jobs, spans, written, options))
    if problems:
        raise _refusal(folder, problems, "Build it again.")
    return Verified(
        folder=folder,
        num_tensors=len(jobs),
        num_checked=len({span.job.output.name for span in spans}),
        num_elements=sum(span.count for span in spans),
    )


def _find_inputs(folder: Path, manifest: Manifest, inputs: Path | None) -> _Inputs:
    """The inputs, from the first place where they are what the manifest says."""
    places = (inputs,) if inputs is not None else (Path.cwd(), folder.resolve().parent)
    problems: list[str] = []
    for place in dict.fromkeys(places):
        try:
            recipe = recipe_from_manifest(manifest.recipe, place)
            plan, records = _planned(recipe)
        except OmniComposeError as error:
            problems.append(f"{place}: {error}")
            continue
        changed = _changed(manifest.inputs, records)
        if not changed:
            return _Inputs(recipe=recipe, plan=plan)
        problems.append(f"{place}: {'; '.join(changed[:5])}")
    raise ExportError(
        f"{folder}: every file has the sha256 of the manifest, but no row could be computed again: "
        "the inputs are not there, or no longer what they were.\n"
        + "\n".join(problems)
        + "\nName the folder that relative paths of the recipe start from with --inputs, or be "
        "content with the hashes: --hashes-only."
    )


def _planned(recipe: ComposeRecipe | MergeRecipe) -> tuple[Plan, tuple[FileRecord, ...]]:
    if isinstance(recipe, ComposeRecipe):
        composite = make_plan(recipe)
        return composite.plan, input_records(recipe, composite.setting.folders())
    merge = make_merge_plan(recipe)
    return merge.plan, input_records(recipe, merge.folders())


def _changed(recorded: Iterable[FileRecord], found: Iterable[FileRecord]) -> list[str]:
    here = {record.path: record for record in found}
    lines = []
    for record in recorded:
        other = here.get(record.path)
        if other is None:
            lines.append(f"{record.path} is not there")
        elif other != record:
            lines.append(f"{record.path} has another content than the manifest says")
    return lines


def _check_outputs(folder: Path, manifest: Manifest, plan: Plan, written: TensorSource) -> None:
    """The recipe must still give the recorded plan, and the files must hold its tensors."""
    problems = []
    if plan.digest() != manifest.plan_sha256:
        problems.append(
            "its recipe gives another plan than the one recorded: the manifest was changed, or "
            "another version of omnicompose wrote it"
        )
    infos = written.infos()
    planned = {entry.output.name: entry.output for entry in plan.entries}
    problems += [
        f"tensor '{name}': found {infos.get(name)}; expected {planned.get(name)}"
        for name in sorted(infos.keys() | planned.keys())
        if infos.get(name) != planned.get(name)
    ]
    if problems:
        raise _refusal(folder, problems, "Build it again.")


def _refusal(folder: Path, problems: list[str], remedy: str) -> ExportError:
    shown = [f"{folder}: {problem}" for problem in problems[:10]]
    if len(problems) > len(shown):
        shown.append(f"... and {len(problems) - len(shown)} more")
    return ExportError("\n".join([*shown, remedy]))
