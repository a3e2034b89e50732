"""Giving any language model streams: its linear layers, chosen by role, become decoupled ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self

from torch import nn

from omnicompose.errors import PlanError
from omnicompose.modalities import MODALITIES
from omnicompose.streams.linear import DecoupledLinear, DenseStream, FactoredStream
from omnicompose.streams.routing import TEXT, RoutingSlot

LINEAR_ROLES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSpec:
    """What a modality's stream is made of.

    Attributes:
        form: `factored` (low rank, added to the text weight) or `dense` (a matrix of its own).
        rank: rank of a factored stream; None for a dense one.
        roles: last path components of the linear layers that are decoupled.
        layers: indices of the decoupled decoder layers; None for all of them.
    """

    form: Literal["factored", "dense"]
    rank: int | None = None
    roles: tuple[str, ...] = LINEAR_ROLES
    layers: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        """Refuse a form that does not exist and a rank that the form cannot have."""
        if self.form not in ("factored", "dense"):
            raise PlanError(
                f"stream form: found {self.form!r}, expected 'factored' or 'dense'. Correct it."
            )
        if (self.form == "factored") != (self.rank is not None):
            raise PlanError(
                f"stream of form {self.form!r}: found rank {self.rank}, expected "
                f"{'a positive rank' if self.form == 'factored' else 'none'}. Set or drop `rank`."
            )

    @classmethod
    def from_config(cls, config: Mapping[str, object]) -> Self:
        """Read the `stream` entry of a modality in a composite's configuration."""
        fields = dict(config)
        for name in ("roles", "layers"):
            if isinstance(fields.get(name), Sequence):
                fields[name] = tuple(fields[name])  # type: ignore[arg-type]  # JSON has lists only
        return cls(**fields)  # type: ignore[arg-type]  # checked by __post_init__


def decouple(language_model: nn.Module, specs: Mapping[str, StreamSpec]) -> RoutingSlot:
    """Give a language model streams: swap its linear layers, by role, for decoupled ones.

    Names of the plain model's parameters stay as they are. Works on the meta device.

    Args:
        language_model: any module whose linear layers are `nn.Linear`; changed in place.
        specs: the stream of each modality; `text` (factored) is an adapter for all other tokens.

    Returns:
        The slot by which the caller routes: `with slot.using(make_routing(type_ids)): ...`.

    Raises:
        PlanError: a name that is no modality, or roles or layers that the model does not have.
    """
    slot = RoutingSlot()
    for name, spec in specs.items():
        if name not in MODALITIES and not (name == TEXT and spec.form == "factored"):
            raise PlanError(
                f"stream {name!r} of form {spec.form!r}: expected a modality among "
                f"{', '.join(MODALITIES)}, or a factored stream for text. Rename it."
            )
        for path in _linear_paths(language_model, name, spec):
            _decoupled(language_model, path, slot).streams[name] = _make_stream(
                language_model.get_submodule(path), spec
            )
    return slot


def _linear_paths(language_model: nn.Module, name: str, spec: StreamSpec) -> list[str]:
    """Paths of the linear layers that `spec` decouples; every role and layer must exist."""
    linear = {
        path: (path.rpartition(".")[2], next((int(p) for p in path.split(".") if p.isdigit()), -1))
        for path, module in language_model.named_modules()
        if isinstance(module, nn.Linear)
    }
    chosen = {
        path: place
        for path, place in linear.items()
        if place[0] in spec.roles and (spec.layers is None or place[1] in spec.layers)
    }
    missing = sorted(set(spec.roles) - {role for role, _ in chosen.values()})
    missing += sorted(
        f"layer {i}" for i in set(spec.layers or ()) - {i for _, i in chosen.values()}
    )
    if missing:
        raise PlanError(
            f"stream {name!r} of a {type(language_model).__name__}: found no linear layer for "
            f"{', '.join(missing)}, expected roles among {sorted({r for r, _ in linear.values()})} "
            f"and layers up to {max((i for _, i in linear.values()), default=-1)}. Correct the "
            "stream's `roles` or `layers`."
        )
    return list(chosen)


def _decoupled(language_model: nn.Module, path: str, slot: RoutingSlot) -> DecoupledLinear:
    linear = language_model.get_submodule(path)
    if isinstance(linear, DecoupledLinear):
        return linear
    parent, _, name = path.rpartition(".")
    decoupled = DecoupledLinear(linear, slot)  # type: ignore[arg-type]  # a path of a linear layer
    setattr(language_model.get_submodule(parent), name, decoupled)
    return decoupled


def _make_stream(linear: nn.Module, spec: StreamSpec) -> nn.Module:
    assert isinstance(linear, nn.Linear)
    return DenseStream(linear) if spec.rank is None else FactoredStream(linear, spec.rank)
