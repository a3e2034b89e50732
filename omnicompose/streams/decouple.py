"""Giving any language model streams: its linear layers and norms, chosen by role, are decoupled."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self, get_args

from torch import nn

from omnicompose.errors import PlanError
from omnicompose.modalities import MODALITIES
from omnicompose.streams.forms import DenseStream, FactoredStream, MaskedStream
from omnicompose.streams.linear import DecoupledLinear
from omnicompose.streams.norm import decouple_norm, is_norm
from omnicompose.streams.routing import TEXT, TEXT_OF, RoutingSlot

LINEAR_ROLES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
Form = Literal["factored", "dense", "masked"]
OUTSIDE = -1
"""The layer of what lies outside the decoder layers, such as the last norm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSpec:
    """What a modality's stream is made of.

    Attributes:
        form: of its linear layers: `factored` (low rank, added to the text weight), `dense` (a
            matrix of its own) or `masked` (the merged delta through a one-bit mask). A norm has a
            weight of its own whatever the form.
        rank: rank of a factored stream; None for another.
        roles: last path components of the linear layers and norms that are decoupled.
        layers: indices of the decoupled decoder layers; None for all of them. What lies outside
            the decoder layers is chosen by its role alone.
    """

    form: Form
    rank: int | None = None
    roles: tuple[str, ...] = LINEAR_ROLES
    layers: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        """Refuse a form that does not exist and a rank that the form cannot have."""
        if self.form not in get_args(Form):
            raise PlanError(
                f"stream form: found {self.form!r}, expected one of {', '.join(get_args(Form))}. "
                "Correct it."
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
        specs: the stream of each modality; `text` (factored) is an adapter for all other tokens,
            `text_<modality>` serves the text of prompts that hold this modality alone.

    Returns:
        The slot by which the caller routes: `with slot.using(make_routing(type_ids)): ...`.

    Raises:
        PlanError: a name that is no modality, or roles or layers that the model does not have.
    """
    slot = RoutingSlot()
    for name, spec in specs.items():
        if name.removeprefix(TEXT_OF) not in MODALITIES and not (
            name == TEXT and spec.form == "factored"
        ):
            raise PlanError(
                f"stream {name!r} of form {spec.form!r}: expected a modality among "
                f"{', '.join(MODALITIES)}, or a factored stream for text. Rename it."
            )
        for path in _paths(language_model, name, spec):
            module = language_model.get_submodule(path)
            if isinstance(module, nn.Linear):
                _add_stream(_decoupled(language_model, path, slot), name, spec)
            else:
                decouple_norm(module, name, slot)
    return slot


def _paths(language_model: nn.Module, name: str, spec: StreamSpec) -> list[str]:
    """Paths of the layers that `spec` decouples; every role and decoder layer must exist."""
    places = {
        path: _place(path)
        for path, module in language_model.named_modules()
        if ".streams." not in path and (isinstance(module, nn.Linear) or is_norm(module))
    }
    chosen = {
        path: place
        for path, place in places.items()
        if place[0] in spec.roles
        and (spec.layers is None or place[1] in spec.layers or place[1] == OUTSIDE)
    }
    missing = sorted(set(spec.roles) - {role for role, _ in chosen.values()})
    missing += sorted(
        f"layer {i}" for i in set(spec.layers or ()) - {i for _, i in chosen.values()}
    )
    if missing:
        raise PlanError(
            f"stream {name!r} of a {type(language_model).__name__}: found no linear layer or norm "
            f"for {', '.join(missing)}, expected roles among "
            f"{sorted({role for role, _ in places.values()})} and layers up to "
            f"{max((i for _, i in places.values()), default=OUTSIDE)}. Correct the stream's "
            "`roles` or `layers`."
        )
    return list(chosen)


def _place(path: str) -> tuple[str, int]:
    """Role and decoder layer of a path."""
    layer = next((int(part) for part in path.split(".") if part.isdigit()), OUTSIDE)
    return path.rpartition(".")[2], layer


def _decoupled(language_model: nn.Module, path: str, slot: RoutingSlot) -> DecoupledLinear:
    linear = language_model.get_submodule(path)
    if isinstance(linear, DecoupledLinear):
        return linear
    parent, _, name = path.rpartition(".")
    decoupled = DecoupledLinear(linear, slot)  # type: ignore[arg-type]  # a path of a linear layer
    setattr(language_model.get_submodule(parent), name, decoupled)
    return decoupled


def _add_stream(layer: DecoupledLinear, name: str, spec: StreamSpec) -> None:
    if spec.rank is not None:
        layer.streams[name] = FactoredStream(layer, spec.rank)
        return
    if spec.form == "masked":
        layer.keep_base()
        layer.streams[name] = MaskedStream(layer)
        return
    layer.streams[name] = DenseStream(layer)
