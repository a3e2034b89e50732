"""Every merging method by name, and the check of the parameters given to one."""

from collections.abc import Mapping
from difflib import get_close_matches

from omnicompose.errors import RecipeError
from omnicompose.merging.method import Method, MethodSpec, Parameter, ParameterValue
from omnicompose.merging.methods.dare import DareLinear, DareTies
from omnicompose.merging.methods.linear import Linear
from omnicompose.merging.methods.task_arithmetic import TaskArithmetic
from omnicompose.merging.methods.ties import Ties

METHODS: dict[str, Method] = {
    "linear": Linear(),
    "task_arithmetic": TaskArithmetic(),
    "ties": Ties(),
    "dare_linear": DareLinear(),
    "dare_ties": DareTies(),
}


def method_named(name: str) -> Method:
    """The method of that name.

    Raises:
        RecipeError: if there is none; names the nearest ones.
    """
    if name in METHODS:
        return METHODS[name]
    raise RecipeError(
        f"method: found {name!r}, expected one of the {len(METHODS)} known methods. "
        f"{_nearest(name, METHODS)}`omnicompose methods` lists them all."
    )


def check_parameters(
    method: str, given: Mapping[str, ParameterValue], profile: str | None = None
) -> Mapping[str, ParameterValue]:
    """Every parameter of a method: defaults, then the profile's values, then what was given.

    Args:
        method: its name.
        given: what the recipe says under `parameters:`.
        profile: named set of values to start from; None: the defaults.

    Returns:
        Name -> value for all parameters of the method.

    Raises:
        RecipeError: with all mistakes at once: unknown method, profile or parameter, a value of
            the wrong type or out of range.
    """
    spec = method_named(method).spec
    known = {parameter.name: parameter for parameter in spec.parameters}
    mistakes = [] if profile is None or profile in spec.profiles else [_profile(spec, profile)]
    for name, value in given.items():
        problem = _unknown(name, known) if name not in known else _problem(known[name], value)
        mistakes += [problem] if problem else []
    if mistakes:
        raise RecipeError("\n".join(f"method {method}: {mistake}" for mistake in mistakes))
    defaults = {name: parameter.default for name, parameter in known.items()}
    chosen = spec.profiles[profile] if profile is not None else {}
    return {**defaults, **chosen, **given}


def _nearest(name: str, names: Mapping[str, object]) -> str:
    near = get_close_matches(name, names, n=3)
    return f"Did you mean {' or '.join(near)}? " if near else ""


def _profile(spec: MethodSpec, profile: str) -> str:
    known = ", ".join(sorted(spec.profiles)) or "none"
    return f"profile: found {profile!r}, expected one of: {known}. Leave it out for the defaults."


def _unknown(name: str, known: Mapping[str, Parameter]) -> str:
    names = ", ".join(known) or "no parameters at all"
    return f"unknown parameter {name!r}, expected: {names}. {_nearest(name, known)}".rstrip()


def _problem(parameter: Parameter, value: ParameterValue) -> str | None:
    if isinstance(value, Mapping):
        return _mapping_problem(parameter, value)
    expected = _expected(parameter)
    wrong = _wrong_type(parameter, value) or _out_of_range(parameter, value)
    return f"parameter {parameter.name!r}: found {value!r}, expected {expected}." if wrong else None


def _mapping_problem(parameter: Parameter, value: Mapping[str, float]) -> str | None:
    if not parameter.per_expert:
        return f"parameter {parameter.name!r}: found {dict(value)!r}, expected one value for all."
    problems = [_problem(parameter, number) for number in value.values()]
    return next((problem for problem in problems if problem), None)


def _wrong_type(parameter: Parameter, value: ParameterValue) -> bool:
    if isinstance(parameter.default, bool) or isinstance(value, bool):
        return not (isinstance(parameter.default, bool) and isinstance(value, bool))
    if isinstance(parameter.default, str):
        return not isinstance(value, str)
    if isinstance(parameter.default, int):
        return not isinstance(value, int)
    return not isinstance(value, int | float)


def _out_of_range(parameter: Parameter, value: ParameterValue) -> bool:
    if parameter.choices:
        return value not in parameter.choices
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    below = parameter.minimum is not None and not value >= parameter.minimum
    above = parameter.maximum is not None and not value <= parameter.maximum
    # NaN compares false with everything, infinity never makes sense as a setting.
    return below or above or value != value or abs(value) == float("inf")


def _expected(parameter: Parameter) -> str:
    if parameter.choices:
        return f"one of: {', '.join(parameter.choices)}"
    if isinstance(parameter.default, bool):
        return "true or false"
    if isinstance(parameter.default, str):
        return "a word"
    kind = "a whole number" if isinstance(parameter.default, int) else "a number"
    least = f" of at least {parameter.minimum:g}" if parameter.minimum is not None else ""
    most = f" of at most {parameter.maximum:g}" if parameter.maximum is not None else ""
    return f"{kind}{least}{most}"
