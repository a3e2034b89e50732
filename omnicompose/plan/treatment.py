"""Which method a backbone tensor gets, with which settings and coefficients."""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from omnicompose.errors import PlanError
from omnicompose.families import Role, layer_of, role_of
from omnicompose.merging.job import Merge
from omnicompose.merging.method import Method, MethodSpec, ParameterValue
from omnicompose.merging.registry import check_parameters, method_named
from omnicompose.recipe import Override, Roles, Stage, TextMerge
from omnicompose.recipe_values import Weight

MEAN_DELTA = "task_arithmetic"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A method on top of a merged delta, with every parameter."""

    method: Method
    parameters: Mapping[str, ParameterValue]

    def apply(self, merged: Merge) -> Merge:
        """The merge of the merged tensor alone.

        Raises:
            PlanError: the method needs more models, or a base that is not there.
        """
        spec = self.method.spec
        if spec.arity[0] > 1 or spec.output != "tensor":
            raise PlanError(
                f"then: method {spec.name!r} cannot follow a merge: it merges several models. Take "
                "one that works on a single delta, such as lines or task_arithmetic."
            )
        if spec.needs_base and merged.base is None:
            raise PlanError(
                f"then: method {spec.name!r} works on the distance from a base, and the recipe "
                "names none. Add `base:`."
            )
        return Merge(
            output=merged.output,
            method=self.method,
            parameters=self.parameters,
            base=merged.base,
            experts=(merged,),
            expert_names=("merged",),
            weights=(1.0,),
            role=merged.role,
            layer=merged.layer,
            num_layers=merged.num_layers,
            seed=merged.seed,
            key=merged.key,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Treatment:
    """What is done to one tensor of the backbone.

    Attributes:
        method: merges it; None keeps the base's.
        parameters: every parameter of the method.
        mean: the plain mean of the deltas, whatever coefficients the recipe gives.
        role: what the tensor does.
        layer: its block.
        steps: what is done to the merged delta afterwards.
    """

    method: Method | None
    parameters: Mapping[str, ParameterValue]
    mean: bool
    role: Role
    layer: int | None
    steps: tuple[Step, ...] = ()

    def phrase(self) -> str:
        """The treatment as a plan gives it for a reason."""
        if self.method is None:
            return f"{self.role}: the base's own"
        if self.mean:
            return f"{self.role}: mean of the experts' deltas"
        names = (self.method, *(step.method for step in self.steps))
        return f"{self.role}: merged by {', then '.join(one.spec.name for one in names)}"

    def staged(self, merged: Merge) -> Merge:
        """A merge with what follows it.

        Raises:
            PlanError: a method cannot follow a merge.
        """
        for step in self.steps:
            merged = step.apply(merged)
        return merged


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
    then = text.then if override is None or override.then is None else override.then
    if override and override.method:
        method, given, profile = override.method, override.parameters, override.profile
    elif override and (override.parameters or override.profile):
        given, profile = {**given, **override.parameters}, override.profile or profile
    parameters = check_parameters(method, given, profile)
    return Treatment(
        method=method_named(method),
        parameters=parameters,
        mean=False,
        role=role,
        layer=layer,
        steps=tuple(map(_step, then)),
    )


def _step(stage: Stage) -> Step:
    return Step(
        method=method_named(stage.method),
        parameters=check_parameters(stage.method, stage.parameters, stage.profile),
    )


def uses_factors(spec: MethodSpec, parameters: Mapping[str, ParameterValue]) -> bool:
    """Whether a method works on low-rank factors under these parameters."""
    dense = any(parameters.get(name) == value for name, value in spec.dense_when.items())
    return spec.factored_ok and not dense


def _treatment(
    method: str | None,
    parameters: Mapping[str, ParameterValue],
    *,
    role: Role,
    layer: int | None,
) -> Treatment:
    return Treatment(
        method=None if method is None else method_named(method),
        parameters=parameters,
        mean=method is not None,
        role=role,
        layer=layer,
    )


def coefficient(
    weight: Weight | None, name: str, depth: float, num_experts: int, expert: str
) -> float:
    """The coefficient of one expert for one tensor.

    Args:
        weight: as the recipe gives it; a list runs over the depth of the backbone and is
            interpolated between its entries.
        name: of the tensor, for tables.
        depth: of the tensor, see `depth_of`.
        num_experts: of the merge.
        expert: its name, for messages.

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
    return _interpolated(weight, depth) if isinstance(weight, tuple) else weight


def depth_of(role: Role, layer: int | None, num_layers: int) -> float:
    """How deep a tensor lies: 0 for embeddings and the first block, 1 for the last and after."""
    if layer is None:
        return 0.0 if role == "embedding" else 1.0
    return layer / max(num_layers - 1, 1)


def _interpolated(weights: tuple[float, ...], depth: float) -> float:
    place = depth * (len(weights) - 1)
    low = min(int(place), len(weights) - 1)
    high = min(low + 1, len(weights) - 1)
    return weights[low] + (place - low) * (weights[high] - weights[low])
