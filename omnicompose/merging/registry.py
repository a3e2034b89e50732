"""Every merging method by name, and the check of the parameters given to one."""

from collections.abc import Mapping
from difflib import get_close_matches

from omnicompose.errors import RecipeError
from omnicompose.merging.method import Method, MethodSpec, Parameter, ParameterValue
from omnicompose.merging.methods.arcee_fusion import ArceeFusion
from omnicompose.merging.methods.breadcrumbs import TIES_SPEC as BREADCRUMBS_TIES
from omnicompose.merging.methods.breadcrumbs import Breadcrumbs
from omnicompose.merging.methods.coefficients import Coefficients
from omnicompose.merging.methods.dare import TIES_SPEC as DARE_TIES
from omnicompose.merging.methods.dare import Dare
from omnicompose.merging.methods.della import LINEAR_SPEC as DELLA_LINEAR
from omnicompose.merging.methods.della import Della
from omnicompose.merging.methods.emr import Emr
from omnicompose.merging.methods.fisher import Fisher
from omnicompose.merging.methods.frank import Frank
from omnicompose.merging.methods.iso import IsoC, IsoCts
from omnicompose.merging.methods.karcher import Karcher
from omnicompose.merging.methods.knots import Knots
from omnicompose.merging.methods.layer_swap import LayerSwap
from omnicompose.merging.methods.linear import Linear
from omnicompose.merging.methods.lines import Lines
from omnicompose.merging.methods.magmax import MagMax
from omnicompose.merging.methods.model_stock import ModelStock
from omnicompose.merging.methods.modelcompose_factors import ModelComposeFactors
from omnicompose.merging.methods.multislerp import MultiSlerp
from omnicompose.merging.methods.nearswap import NearSwap
from omnicompose.merging.methods.nuslerp import NuSlerp
from omnicompose.merging.methods.optmerge import OptMerge
from omnicompose.merging.methods.passthrough import Passthrough
from omnicompose.merging.methods.r_tsvm_like import RTsvmLike
from omnicompose.merging.methods.ram import Ram, RamPlus
from omnicompose.merging.methods.regmean import PLUS_PLUS_SPEC as REGMEAN_PLUS_PLUS
from omnicompose.merging.methods.regmean import RegMean
from omnicompose.merging.methods.rmm import Rmm
from omnicompose.merging.methods.sce import Sce
from omnicompose.merging.methods.shift_weighted import ShiftWeighted
from omnicompose.merging.methods.slerp import Slerp
from omnicompose.merging.methods.ssam import Ssam
from omnicompose.merging.methods.swudi import Aswudi, Swudi
from omnicompose.merging.methods.tall import Consensus, Tall
from omnicompose.merging.methods.task_arithmetic import TaskArithmetic
from omnicompose.merging.methods.ties import Ties
from omnicompose.merging.methods.tsv import Tsv
from omnicompose.merging.methods.varm import Varm
from omnicompose.merging.methods.widen import Widen
from omnicompose.merging.methods.wudi import Wudi
from omnicompose.merging.searched import SEARCHED

_ALL: tuple[Method, ...] = (
    Linear(),
    TaskArithmetic(),
    Ties(),
    Dare(),
    Dare(DARE_TIES),
    Della(),
    Della(DELLA_LINEAR),
    Breadcrumbs(),
    Breadcrumbs(BREADCRUMBS_TIES),
    ModelStock(),
    Sce(),
    Varm(),
    Ram(),
    RamPlus(),
    MagMax(),
    Widen(),
    ShiftWeighted(),
    Consensus(),
    Tall(),
    Emr(),
    Lines(),
    Slerp(),
    NuSlerp(),
    MultiSlerp(),
    Karcher(),
    Tsv(),
    IsoC(),
    IsoCts(),
    Wudi(),
    OptMerge(),
    Swudi(),
    Aswudi(),
    Knots(),
    Ssam(),
    NearSwap(),
    ArceeFusion(),
    LayerSwap(),
    Passthrough(),
    Fisher(),
    RegMean(),
    RegMean(REGMEAN_PLUS_PLUS),
    Frank(),
    Coefficients(),
    Rmm(),
    RTsvmLike(),
)

METHODS: dict[str, Method] = {method.spec.name: method for method in _ALL}
"""Name -> method, in the order in which they are listed."""

REPRODUCTIONS: dict[str, Method] = {ModelComposeFactors.spec.name: ModelComposeFactors()}
"""What published code computes and no method should: to be had by name, and not listed."""


def method_named(name: str) -> Method:
    """The method of that name.

    Raises:
        RecipeError: if there is none; names the nearest ones.
    """
    if name in METHODS or name in REPRODUCTIONS:
        return METHODS.get(name) or REPRODUCTIONS[name]
    if name in SEARCHED:
        raise RecipeError(
            f"method: {name!r} searches its coefficients on data, which `omnicompose merge` does "
            "for the method of a whole merge recipe. Name another one here, or the coefficients "
            "that a search wrote."
        )
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
    spec = SEARCHED[method] if method in SEARCHED else method_named(method).spec
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
