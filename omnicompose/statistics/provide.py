"""Statistics for the models of a recipe: collected where the recipe gives data instead of them."""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

from omnicompose.composer import compose
from omnicompose.errors import CalibrationError, SourceError
from omnicompose.merging.registry import check_parameters, method_named
from omnicompose.merging.statistics_file import how_to_measure
from omnicompose.recipe import ComposeRecipe, MergeRecipe, Model, read_recipe
from omnicompose.recipe_values import Source, parse_source
from omnicompose.recipe_writing import write_recipe
from omnicompose.statistics.collect import CollectOptions, collect
from omnicompose.statistics.merged import KIND as MERGED
from omnicompose.statistics.merged import collect_merged
from omnicompose.statistics.prompts import PromptFile, Shown, read_prompts
from omnicompose.statistics.unmeasured import plan_unmeasured

Say = Callable[[str], None]


def needed_by(recipe: MergeRecipe) -> tuple[str, str] | None:
    """What the recipe's method measures, and of whom (`every` or `first`); None: nothing.

    Raises:
        RecipeError: no such method or parameter.
    """
    parameters = check_parameters(recipe.method, recipe.parameters, recipe.profile)
    spec = method_named(recipe.method).spec
    kind = spec.measures_under(parameters)
    return None if kind is None else (kind, spec.measured)


def with_statistics(recipe: MergeRecipe, folder: Path, say: Say) -> MergeRecipe:
    """The recipe with a file of statistics for every model that its method needs one of.

    Models that give `data:` and no `statistics:` are collected on, into `folder`; files that are
    there already, of the same model and data, are used again.

    Raises:
        CalibrationError: a model gives neither data nor statistics, or data cannot be used.
        PlanError: the models do not fit together.
    """
    needed = needed_by(recipe)
    if needed is None or all(model.statistics or not model.data for model in recipe.models):
        return recipe
    kind, whose = needed
    wanted = recipe.models[: 1 if whose == "first" else None]
    lacking = [model.label for model in wanted if model.statistics is None and model.data is None]
    if lacking:
        raise CalibrationError(
            f"method {recipe.method!r} measures its models, and {', '.join(lacking)} give neither "
            f"`data:` nor `statistics:`. To mend it, {how_to_measure(kind)}."
        )
    with TemporaryDirectory() as place:
        # Before any data are looked at: do the models fit together?
        plan_unmeasured(recipe, kind, Path(place) / "nothing.safetensors")
    files = [folder / f"{file_name(model.label)}.{kind}.safetensors" for model in recipe.models]
    if kind == MERGED:
        _provide_merged(recipe, files, say)
    models = list(recipe.models)
    for number in range(len(wanted)):
        model = models[number]
        if model.statistics is not None or model.data is None:
            continue
        if kind != MERGED:
            _provide(model, files[number], CollectOptions(kind=kind, overwrite=True), say)
        source = parse_source(str(files[number].resolve()), folder)
        models[number] = model.model_copy(update={"statistics": source})
    return recipe.model_copy(update={"models": tuple(models)})


def file_name(label: str) -> str:
    """A model's name as part of a file's name; no two names become one."""
    plain = "".join(c if c.isalnum() or c in "-_" else "-" for c in label)
    return plain if plain == label else f"{plain}-{sha256(label.encode()).hexdigest()[:8]}"


def _provide(model: Model, file: Path, options: CollectOptions, say: Say) -> None:
    assert model.data is not None
    data = read_prompts(Path(model.data.location))
    say(f"{model.label}: collect {options.kind} on {len(data.prompts)} examples")
    collect(model.source, data, file, options, say)


def _provide_merged(recipe: MergeRecipe, files: list[Path], say: Say) -> None:
    lacking = [model.label for model in recipe.models if model.data is None]
    if lacking:
        raise CalibrationError(
            f"method {recipe.method!r} measures all its models together, and {lacking[0]!r} gives "
            "no `data:`. Give data for every model."
        )
    data = [read_prompts(Path(m.data.location)) for m in recipe.models if m.data is not None]
    collect_merged(recipe, data, files, say)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the command line asks to collect on.

    Attributes:
        source: a model, or the path of a recipe.
        data: a file of examples; None where the recipe's models give their own.
        limit: so many examples at most.
        out: a file to write; a folder for a recipe.
    """

    source: str
    data: Path | None
    limit: int | None
    out: Path

    def prompts(self) -> PromptFile:
        """The examples.

        Raises:
            CalibrationError: no file is named, or it cannot be read.
        """
        if self.data is None:
            raise CalibrationError(
                f"{self.source}: no calibration data. Name a file of JSON lines with --data."
            )
        return read_prompts(self.data, self.limit)


def collect_any(asked: Asked, options: CollectOptions, say: Say) -> dict[str, Path]:
    """Collect on a model, or on all that a recipe names; the files by name.

    Raises:
        CalibrationError: there are no data, or they cannot be used.
        SourceError: a model cannot be opened.
    """
    path = Path(asked.source)
    if path.suffix not in (".yaml", ".yml"):
        collect(_source(asked.source), asked.prompts(), asked.out, options, say)
        return {asked.source: asked.out}
    recipe = read_recipe(path)
    if isinstance(recipe, ComposeRecipe):
        return collect_experts(recipe, asked.prompts(), asked.out, options, say)
    return _collect_models(recipe, asked, options, say)


def _source(text: str) -> Source:
    try:
        return parse_source(text, Path.cwd())
    except ValueError as error:
        raise SourceError(f"{text}: {error}") from error


def _collect_models(
    recipe: MergeRecipe, asked: Asked, options: CollectOptions, say: Say
) -> dict[str, Path]:
    found = {}
    for model in recipe.models:
        out = asked.out / f"{file_name(model.label)}.{options.kind}.safetensors"
        if model.data is None:
            data = asked.prompts()
        else:
            data = read_prompts(Path(model.data.location), asked.limit)
        collect(model.source, data, out, options, say)
        found[model.label] = out
    return found


def collect_experts(
    recipe: ComposeRecipe, data: PromptFile, folder: Path, options: CollectOptions, say: Say
) -> dict[str, Path]:
    """Compose every expert of a recipe alone and collect on the prompts that show its modality.

    Returns:
        The file of each expert, by modality.

    Raises:
        CalibrationError: no prompt shows an expert's modality alone.
    """
    found = {}
    for modality in recipe.experts:
        out = folder / f"{modality}.{options.kind}.safetensors"
        own = _showing(data, modality)
        with TemporaryDirectory(dir=_made(folder), prefix=".composing-") as work:
            file = Path(work) / "recipe.yaml"
            write_recipe(alone(recipe, modality), file)
            compose(file, Path(work) / "expert")
            source = Source(
                text=f"{modality} of the recipe",
                kind="path",
                location=str((Path(work) / "expert").resolve()),
            )
            collect(source, own, out, options, say)
        found[modality] = out
    return found


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _showing(data: PromptFile, modality: str) -> PromptFile:
    own = tuple(
        prompt
        for prompt in data.prompts
        if {part.modality for part in prompt.content if isinstance(part, Shown)} == {modality}
    )
    if not own:
        raise CalibrationError(
            f"{data.path}: no line shows {modality} alone; expected some for every expert."
        )
    return PromptFile(path=data.path, sha256=f"{data.sha256}:{modality}", prompts=own)


def alone(recipe: ComposeRecipe, modality: str) -> ComposeRecipe:
    """One expert as it is: its own delta whole, whatever the recipe does with several."""
    expert = recipe.experts[modality].model_copy(update={"weight": 1.0})
    return ComposeRecipe(
        base=recipe.base,
        experts={modality: expert},
        modality="exact",
        dtype=recipe.dtype,
        allow_different_base=recipe.allow_different_base,
        allow_pickle=recipe.allow_pickle,
    )
