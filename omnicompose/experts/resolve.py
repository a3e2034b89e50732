"""From the text of a source to a folder on this machine."""

from pathlib import Path

from omnicompose.errors import SourceError
from omnicompose.recipe_values import Source, parse_source

WEIGHT_PATTERNS = ("*.safetensors", "*.safetensors.index.json")
PICKLED_PATTERNS = ("*.bin", "*.bin.index.json")
TEXT_PATTERNS = ("*.json", "*.jinja", "*.model", "*.txt")


def resolve(source: Source, *, allow_pickle: bool = False) -> Path:
    """The folder of a source, its adapter left aside; hub files come from the cache if there.

    Args:
        source: as the recipe names it.
        allow_pickle: fetch pickled weights from the hub too.

    Raises:
        SourceError: no such zoo model, hub repository or folder.
    """
    if source.kind == "zoo":
        from omnicompose.zoo.catalog import zoo_path

        return zoo_path(source.location)
    if source.kind == "hub":
        return _download(source, allow_pickle=allow_pickle)
    path = Path(source.location)
    if not path.is_dir():
        raise SourceError(f"{source}: {path} is not a folder. Name the folder of the model.")
    return path


def resolve_text(text: str, folder: Path, *, allow_pickle: bool = False) -> tuple[Source, Path]:
    """A source named inside another model's files, such as an adapter's base.

    Args:
        text: a path, `zoo:NAME` or hub id.
        folder: whose file names it; relative paths start there.
        allow_pickle: fetch pickled weights from the hub too.

    Raises:
        SourceError: the text is no source, or it leads nowhere.
    """
    try:
        source = parse_source(text, folder)
    except ValueError as error:
        raise SourceError(f"{folder}: {error}") from error
    return source, resolve(source, allow_pickle=allow_pickle)


def _download(source: Source, *, allow_pickle: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    pickled = PICKLED_PATTERNS if allow_pickle else ()
    try:
        return Path(
            snapshot_download(
                source.location,
                revision=source.revision,
                allow_patterns=[*WEIGHT_PATTERNS, *TEXT_PATTERNS, *pickled],
            )
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise SourceError(
            f"{source}: no such folder here, and the hub does not give it: {reason} "
            "Check the spelling, the revision, the network, or HF_TOKEN for a private model."
        ) from error
