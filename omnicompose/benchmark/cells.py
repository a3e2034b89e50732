"""The rows of a benchmark: which methods can run on a suite, and under which choices."""

from collections.abc import Sequence
from dataclasses import dataclass

from omnicompose.benchmark.suite import Suite, Variant
from omnicompose.errors import RecipeError
from omnicompose.merging.method import MethodSpec
from omnicompose.merging.registry import METHODS, check_parameters, method_named

ALL = "all"
AVERAGE = "linear"
"""The method that all others are compared with, as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One row to be.

    Attributes:
        label: unique in its suite.
        variant: method and settings.
        policy: what a modality's own tokens use; empty for merges of one model's fine-tunes.
        reason: why it cannot be run; empty where it can.
    """

    label: str
    variant: Variant
    policy: str = ""
    reason: str = ""

    @property
    def spec(self) -> MethodSpec:
        """Of its method."""
        return method_named(self.variant.method).spec


def cells_of(suite: Suite, names: Sequence[str]) -> list[Cell]:
    """The rows that `--methods` asks for, the plain average first.

    Args:
        suite: the benchmark.
        names: methods, `METHOD@PROFILE`, the suite's variants, or `all`.

    Raises:
        RecipeError: an unknown method, variant, profile or parameter.
    """
    variants = {AVERAGE: Variant(method=AVERAGE)}
    for name in names:
        variants |= _everything(suite) if name == ALL else {name: _named(suite, name)}
    for variant in variants.values():
        check_parameters(variant.method, variant.parameters, variant.profile)
    policies = suite.modality if suite.kind == "compose" else ("",)
    return [
        Cell(
            label=f"{label} x {policy}" if policy else label,
            variant=variant,
            policy=policy,
            reason=_reason(method_named(variant.method).spec, suite.num_models),
        )
        for label, variant in variants.items()
        for policy in policies
    ]


def _everything(suite: Suite) -> dict[str, Variant]:
    """Every method that looks at weights alone, and the suite's variants."""
    free = [
        name
        for name, method in METHODS.items()
        if method.spec.measures_under(check_parameters(name, {})) is None
    ]
    return {name: Variant(method=name) for name in free} | dict(suite.variants)


def _named(suite: Suite, name: str) -> Variant:
    if name in suite.variants:
        return suite.variants[name]
    method, at, profile = name.partition("@")
    spec = method_named(method).spec
    variant = Variant(method=method, profile=profile if at else None)
    parameters = check_parameters(method, {}, variant.profile)
    if (measured := spec.measures_under(parameters)) is not None:
        raise RecipeError(
            f"--methods: {name} looks at data ({measured}), and a suite holds none for it. Choose "
            "methods that look at weights alone, or give its statistics in a merge of your own."
        )
    return variant


def _reason(spec: MethodSpec, num_models: int) -> str:
    least, most = spec.arity
    if least <= num_models and (most is None or num_models <= most):
        return ""
    takes = f"{least}" if least == most else f"{least} or more"
    return f"takes {takes} models, the suite has {num_models}"
