"""Deltas of a group of experts, and their plain combinations."""

from collections.abc import Mapping, Sequence

import torch

from omnicompose.errors import MergeError
from omnicompose.merging.method import MergeContext, ParameterValue, TensorGroup


def base_of(group: TensorGroup) -> torch.Tensor:
    """The base's tensor.

    Raises:
        MergeError: if the group has none.
    """
    if group.base is None:
        raise MergeError(
            f"{group.name}: this method merges deltas and was given no base. "
            "Name the experts' common base in the recipe."
        )
    return group.base


def deltas(group: TensorGroup) -> tuple[torch.Tensor, ...]:
    """`expert - base` of every expert, fp32."""
    base = base_of(group)
    return tuple(expert - base for expert in group.experts)


def combine(tensors: Sequence[torch.Tensor], coefficients: Sequence[float]) -> torch.Tensor:
    """`sum_i coefficients[i] * tensors[i]`; terms with coefficient 0 are not read.

    A lone coefficient of 1 gives a bit-exact copy of its tensor: no arithmetic touches it.
    """
    terms = [(t, c) for t, c in zip(tensors, coefficients, strict=True) if c != 0.0]
    if not terms:
        return torch.zeros_like(tensors[0])
    first, coefficient = terms[0]
    total = first.clone() if coefficient == 1.0 else first * coefficient
    for tensor, coefficient in terms[1:]:
        total.add_(tensor, alpha=coefficient)
    return total


def add_to_base(group: TensorGroup, delta: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
    """`base + scale * delta`."""
    return torch.add(base_of(group), delta, alpha=scale)


def mean_delta(group: TensorGroup) -> torch.Tensor:
    """Weighted mean of the deltas, whatever the weights add up to: what 1-D tensors get.

    Raises:
        MergeError: the weights add up to nothing.
    """
    return combine(deltas(group), normalised(group.weights, group.name))


def normalised(weights: Sequence[float], name: str) -> list[float]:
    """Weights divided by their sum.

    Raises:
        MergeError: if they add up to nothing.
    """
    total = sum(weights)
    if abs(total) < 1e-12 * max(map(abs, weights), default=0.0) or total == 0.0:
        raise MergeError(
            f"{name}: the experts' weights {list(weights)} add up to {total}, so they cannot be "
            "normalised. Change them, or set normalize: false."
        )
    return [weight / total for weight in weights]


def number(parameters: Mapping[str, ParameterValue], name: str) -> float:
    """A numeric parameter."""
    value = parameters[name]
    assert isinstance(value, int | float)
    return float(value)


def flag(parameters: Mapping[str, ParameterValue], name: str) -> bool:
    """A yes-or-no parameter."""
    return parameters[name] is True


def word(parameters: Mapping[str, ParameterValue], name: str) -> str:
    """A parameter that is one of a few words."""
    value = parameters[name]
    assert isinstance(value, str)
    return value


def per_expert(expert_names: tuple[str, ...], context: MergeContext, name: str) -> list[float]:
    """A numeric parameter for every expert.

    Raises:
        MergeError: if it is a mapping that lacks one of them.
    """
    value = context.parameters[name]
    if not isinstance(value, Mapping):
        return [number(context.parameters, name)] * len(expert_names)
    missing = [expert for expert in expert_names if expert not in value]
    if missing:
        raise MergeError(
            f"parameter {name!r}: names {sorted(value)} but not {missing}. "
            "Give a number for every expert, or one number for all."
        )
    return [float(value[expert]) for expert in expert_names]
