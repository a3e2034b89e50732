"""What `omnicompose methods` shows: every method as plain data, taken from its declaration."""

from dataclasses import asdict

from omnicompose.merging.method import MethodSpec, Parameter
from omnicompose.merging.registry import METHODS, method_named
from omnicompose.merging.searched import SEARCHED
from omnicompose.merging.statistics_file import how_to_measure


def method_rows(name: str | None = None) -> list[dict[str, object]]:
    """One row per method, or the one row of `name`.

    Raises:
        RecipeError: there is no such method; names the nearest.
    """
    if name is None:
        return [_row(spec) for spec in (*(m.spec for m in METHODS.values()), *SEARCHED.values())]
    return [_row(SEARCHED[name] if name in SEARCHED else method_named(name).spec)]


def _row(spec: MethodSpec) -> dict[str, object]:
    return {
        "name": spec.name,
        "summary": spec.summary,
        "formula": spec.formula,
        "paper": spec.paper,
        "needs": _needs(spec),
        "data": _data(spec),
        "parameters": {parameter.name: _parameter(parameter) for parameter in spec.parameters},
        "profiles": {name: dict(values) for name, values in spec.profiles.items()},
        "works_on": spec.granularity,
        "num_passes": spec.num_passes,
        "stochastic": spec.stochastic,
        "weighted": spec.weighted,
        "factored_ok": spec.factored_ok,
        "dense_when": dict(spec.dense_when),
        "output": spec.output,
    }


def _needs(spec: MethodSpec) -> str:
    least, most = spec.arity
    count = f"{least} or more" if most is None else f"{least} to {most}"
    models = f"exactly {least}" if least == most else count
    return f"{models} models{' and their base' if spec.needs_base else ''}"


def _data(spec: MethodSpec) -> str:
    """What it looks at beside weights, and how to come by it."""
    if spec.measures is None:
        return spec.data
    whose = "each model" if spec.measured == "every" else "the first model"
    chosen = " and ".join(f"{name}: {value}" for name, value in spec.measured_when.items())
    condition = f" (with {chosen})" if chosen else ""
    return f"{spec.measures} of {whose}{condition}: {how_to_measure(spec.measures)}"


def _parameter(parameter: Parameter) -> dict[str, object]:
    return {key: value for key, value in asdict(parameter).items() if value not in (None, (), "")}
