"""What was measured of the models of a merge, for the methods that need it."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from omnicompose.errors import PlanError
from omnicompose.merging.job import Measure
from omnicompose.merging.method import MethodSpec, ParameterValue
from omnicompose.merging.statistics_file import (
    StatisticsFile,
    how_to_measure,
    open_statistics,
)
from omnicompose.recipe_values import Source


def measures_of(
    spec: MethodSpec,
    parameters: Mapping[str, ParameterValue],
    models: Mapping[str, Source | None],
    name: str,
) -> tuple[Measure | None, ...]:
    """What a method gets beside the tensors `name` of its models.

    Args:
        spec: of the method.
        parameters: every parameter of it.
        models: by what the recipe calls a model, its file of statistics.
        name: of the tensor in the backbone.

    Returns:
        One measurement per model, None where this tensor was not measured; empty if the method
        looks at weights alone.

    Raises:
        PlanError: a model has no file of statistics.
        SourceError: a file is no such file, or holds another kind.
    """
    kind = spec.measures_under(parameters)
    if kind is None:
        return ()
    wanted = list(models)[: 1 if spec.measured == "first" else None]
    if lacking := [model for model in wanted if models[model] is None]:
        raise PlanError(
            f"method {spec.name!r} needs statistics ({kind}) of {', '.join(lacking)}, and the "
            f"recipe names none. To get them, {how_to_measure(kind)}."
        )
    return tuple(
        _measure(source, kind, name) if model in wanted and source is not None else None
        for model, source in models.items()
    )


def _measure(source: Source, kind: str, name: str) -> Measure | None:
    path = Path(source.location)
    return _opened(path, kind, path.stat().st_mtime_ns).measure(name)


@lru_cache(maxsize=64)
def _opened(path: Path, kind: str, _changed: int) -> StatisticsFile:
    """Opened once for all tensors, and again when the file has changed."""
    return open_statistics(path, kind)


def statistics_files(models: Sequence[Source | None]) -> dict[str, Path]:
    """The files of statistics that a recipe names, by how it names them."""
    return {one.text: Path(one.location) for one in models if one is not None}
