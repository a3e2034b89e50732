"""From the text of a source to a folder on this machine."""

from pathlib import Path

from omnicompose.errors import SourceError
from omnicompose.experts.hub import hub_folder
from omnicompose.experts.refusals import refuse_gguf
from omnicompose.recipe_values import Source, parse_source


def resolve(source: Source, *, allow_pickle: bool = False, weights: bool = True) -> Path:
    """The folder of a source, its adapter left aside; hub files come from the cache if there.

    Args:
        source: as the recipe names it.
        allow_pickle: fetch pickled weights from the hub too.
        weights: fetch weights from the hub at all; configurations are enough for a first look.

    Raises:
        SourceError: no such zoo model, hub repository or folder.
    """
    if source.kind == "zoo":
        from omnicompose.zoo.catalog import zoo_path

        return zoo_path(source.location)
    if source.kind == "hub":
        return hub_folder(source, allow_pickle=allow_pickle, weights=weights)
    path = Path(source.location)
    refuse_gguf(source.text, path)
    if not path.is_dir():
        raise SourceError(f"{source}: {path} is not a folder. Name the folder of the model.")
    return path


def source_here(text: str) -> Source:
    """A source from the command line; relative paths start in the working directory.

    Raises:
        SourceError: the text is no source.
    """
    try:
        return parse_source(text, Path.cwd())
    except ValueError as error:
        raise SourceError(str(error)) from error


def resolve_text(
    text: str, folder: Path, *, allow_pickle: bool = False, weights: bool = True
) -> tuple[Source, Path]:
    """A source named inside another model's files, such as an adapter's base.

    Args:
        text: a path, `zoo:NAME` or hub id.
        folder: whose file names it; relative paths start there.
        allow_pickle: fetch pickled weights from the hub too.
        weights: fetch weights from the hub at all.

    Raises:
        SourceError: the text is no source, or it leads nowhere.
    """
    try:
        source = parse_source(text, folder)
    except ValueError as error:
        raise SourceError(f"{folder}: {error}") from error
    return source, resolve(source, allow_pickle=allow_pickle, weights=weights)
