"""Which method a backbone tensor gets, with which settings and coefficients."""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from omnicompose.errors import PlanError
from omnicompose.families import Role, layer_of, role_of
from omnicompose.merging.method import Method, ParameterValue
from omnicompose.merging.registry import check_parameters, method_named
from omnicompose.recipe import Override, Roles, TextMerge
from omnicompose.recipe_values import Weight

MEAN_DELTA = "task_arithmetic"


@dataclass(frozen=True, slots=True, kw_only=True)
class Treatment:
    """What is done to one tensor of the backbone.

    Attributes:
        method: merges it; None keeps the base's.
        parameters: every parameter of the method.
        mean: the plain mean of the deltas, whatever coefficients the recipe gives.
        role: what the tensor does.
        layer: its block.
    """

    method: Method | None
    parameters: Mapping[str, ParameterValue]
    mean: bool
    role: Role
    layer: int | None

    def phrase(self) -> str:
        """The treatment as a plan gives it for a reason."""
        if self.method is None:
            return f"{self.role}: the base's own"
        if self.mean:
            return f"{self.role}: mean of the experts' deltas"
        return f"{self.role}: merged by {self.method.spec.name}"


def treatment_of(
    name: str,
    text: TextMerge,
    roles: Roles,
    overrides: tuple[Override, ...],
    role: Role | None = None,
) -> Treatment:
    """The treatment of a tensor: the first override that matches, else its role's.

    Args:
        name: of the tensor.
        text: method and settings of the recipe.
        roles: policy by role.
        overrides: exceptions by name.
        role: what the tensor does; None: as its name says, as a part of the backbone.

    Raises:
        RecipeError: the method or a parameter does not exist.
    """
    layer = layer_of(name) if role is None else None
    role = role or role_of(name)
    override = next((one for one in overrides if fnmatchcase(name, one.match)), None)
    policy = override.policy if override else getattr(roles, role)
    if policy == "base":
        return _treatment(None, {}, role=role, layer=layer)
    if policy == "mean_delta":
        return _treatment(MEAN_DELTA, check_parameters(MEAN_DELTA, {}), role=role, layer=layer)
    method, given, profile = text.method, text.parameters, text.profile
    if override and override.method:
        method, given, profile = override.method, override.parameters, override.profile
    elif override and (override.parameters or override.profile):
        given, profile = {**given, **override.parameters}, override.profile or profile
    parameters = check_parameters(method, given, profile)
    return _treatment(method, parameters, role=role, layer=layer, mean=False)


def _treatment(
    method: str | None,
    parameters: Mapping[str, ParameterValue],
    *,
    role: Role,
    layer: int | None,
    mean: bool = True,
) -> Treatment:
    return Treatment(
        method=None if method is None else method_named(method),
        parameters=parameters,
        mean=mean and method is not None,
        role=role,
        layer=layer,
    )


def coefficient(
    weight: Weight | None, name: str, num_layers: int, num_experts: int, expert: str
) -> float:
    """The coefficient of one expert for one tensor.

    A list runs over the depth of the backbone and is interpolated between its entries; tensors
    before the blocks take its first value, tensors behind them its last.

    Raises:
        PlanError: a table has no pattern for this tensor.
    """
    if weight is None:
        return 1.0 / num_experts
    if isinstance(weight, Mapping):
        found = next((w for pattern, w in weight.items() if fnmatchcase(name, pattern)), None)
        if found is None:
            raise PlanError(
                f"expert {expert!r}: its table of coefficients has no pattern for {name!r}. "
                'Add one, or "*" for all that is left.'
            )
        return found
    if isinstance(weight, tuple):
        return _over_depth(weight, name, num_layers)
    return weight


def _over_depth(weights: tuple[float, ...], name: str, num_layers: int) -> float:
    layer = layer_of(name)
    if layer is None:
        return weights[0] if role_of(name) == "embedding" else weights[-1]
    place = layer * (len(weights) - 1) / max(num_layers - 1, 1)
    low = min(int(place), len(weights) - 1)
    high = min(low + 1, len(weights) - 1)
    return weights[low] + (place - low) * (weights[high] - weights[low])
