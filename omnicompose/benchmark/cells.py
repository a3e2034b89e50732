"""The rows of a benchmark: which methods can run on a suite, and under which choices."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from omnicompose.benchmark.suite import Suite, Variant
from omnicompose.errors import RecipeError
from omnicompose.merging.method import MethodSpec
from omnicompose.merging.registry import METHODS, check_parameters, method_named
from omnicompose.merging.searched import SEARCHED

ALL, ALL_DATA = "all", "all-data"
AVERAGE = "linear"
"""The method that all others are compared with, as it is."""
WRITTEN = "coefficients"
"""What a search writes; no data give it."""
SHOWN = {
    "gram": "questions: Grams of inputs",
    "merged_gram": "questions: Grams of inputs along the merge",
    "fisher": "questions: squared gradients",
    "attention": "questions: attention to media",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One row to be.

    Attributes:
        label: unique in its suite.
        variant: method and settings.
        models: those that it merges, of the suite's `models`; empty where experts are composed.
        policy: what a modality's own tokens use; empty for merges of one model's fine-tunes.
        reason: why it cannot be run; empty where it can.
    """

    label: str
    variant: Variant
    models: tuple[str, ...] = ()
    policy: str = ""
    reason: str = ""

    @property
    def spec(self) -> MethodSpec:
        """Of its method."""
        return spec_of(self.variant.method)

    @property
    def data(self) -> str:
        """What it is shown beside weights; empty for nothing."""
        return data_of(self.variant)


def spec_of(method: str) -> MethodSpec:
    """What a method declares, whether it merges at once or searches first.

    Raises:
        RecipeError: there is no such method.
    """
    return SEARCHED[method] if method in SEARCHED else method_named(method).spec


def data_of(variant: Variant) -> str:
    """What a method looks at beside weights, in words; empty for nothing.

    Raises:
        RecipeError: an unknown method, profile or parameter.
    """
    parameters = check_parameters(variant.method, variant.parameters, variant.profile)
    if variant.method in SEARCHED:
        labelled = "reply" in SEARCHED[variant.method].data
        return "questions and replies" if labelled else "questions"
    kind = spec_of(variant.method).measures_under(parameters)
    return "" if kind is None else SHOWN.get(kind, WRITTEN)


def cells_of(suite: Suite, names: Sequence[str]) -> list[Cell]:
    """The rows that `--methods` asks for, the plain average first.

    Args:
        suite: the benchmark.
        names: methods, `METHOD@PROFILE`, the suite's variants; `all` for those that look at weights
            alone with all variants, `all-data` for those that look at data.

    Raises:
        RecipeError: an unknown method, variant, profile or parameter; a method that looks at data
            which the suite does not give; two rows of one name.
    """
    for method in suite.budgets:
        spec_of(method)
    variants = {AVERAGE: Variant(method=AVERAGE)}
    for name in names:
        variants |= _group(suite, name) or {name: _named(suite, name)}
    for label, variant in variants.items():
        _check_data(suite, label, data_of(variant))
    cells: list[Cell] = []
    for label, variant in variants.items():
        cells += (
            _of_models(suite, label, variant)
            if suite.models
            else _of_experts(suite, label, variant)
        )
    counts = Counter(cell.label for cell in cells)
    if twice := [label for label, count in counts.items() if count > 1]:
        raise RecipeError(
            f"--methods: two rows are called {twice[0]!r}. Give the variant another name."
        )
    return cells


def _of_models(suite: Suite, label: str, variant: Variant) -> list[Cell]:
    """Of all models, unless the variant names some or its method takes no more than the pair."""
    spec, models = spec_of(variant.method), variant.models or tuple(suite.models)
    most = spec.arity[1]
    if not variant.models and suite.pair and most is not None and most < len(models):
        models = suite.pair[:most]
    if models != tuple(suite.models) and label not in suite.variants:
        label = f"{label} of {' + '.join(models)}"
    reason = _reason(spec, len(models))
    return [Cell(label=label, variant=variant, models=models, reason=reason)]


def _of_experts(suite: Suite, label: str, variant: Variant) -> list[Cell]:
    reason = _reason(spec_of(variant.method), suite.num_models)
    return [
        Cell(label=f"{label} x {policy}", variant=variant, policy=policy, reason=reason)
        for policy in suite.modality
    ]


def _group(suite: Suite, name: str) -> dict[str, Variant]:
    """The rows of `all` or of `all-data`; none for another name."""
    if name not in (ALL, ALL_DATA):
        return {}
    own = {method: _variant(suite, method) for method in (*METHODS, *SEARCHED)}
    looks = {method: data_of(variant) for method, variant in own.items()}
    if name == ALL:
        return {method: own[method] for method in own if not looks[method]} | dict(suite.variants)
    return {method: own[method] for method in own if looks[method] not in ("", WRITTEN)}


def _named(suite: Suite, name: str) -> Variant:
    if name in suite.variants:
        return suite.variants[name]
    method, at, profile = name.partition("@")
    return _variant(suite, method, profile if at else None)


def _variant(suite: Suite, method: str, profile: str | None = None) -> Variant:
    return Variant(method=method, profile=profile, parameters=suite.budgets.get(method, {}))


def _check_data(suite: Suite, label: str, data: str) -> None:
    if data == WRITTEN:
        raise RecipeError(
            f"--methods: {label} takes the coefficients that a search wrote, which no suite gives. "
            "Name the search itself, such as expert_merging_plus_plus."
        )
    if data and not suite.calibration:
        raise RecipeError(
            f"--methods: {label} looks at data ({data}), and suite {suite.name!r} holds none for "
            "it. Name a task for each model under `calibration:` in the suite, or choose methods "
            "that look at weights alone (`all`)."
        )


def _reason(spec: MethodSpec, num_models: int) -> str:
    least, most = spec.arity
    if least <= num_models and (most is None or num_models <= most):
        return ""
    takes = f"{least}" if least == most else f"{least} or more"
    return f"takes {takes} models, found {num_models}"
