"""Which tensors a modality's stream holds, and what is known of each from headers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from omnicompose.errors import PlanError
from omnicompose.experts.expert import Backbone, Expert, Factor
from omnicompose.families import layer_of, role_of
from omnicompose.plan.backbone import backbone_names
from omnicompose.plan.setting import Setting
from omnicompose.tensors.source import TensorInfo

LINEAR_KINDS = ("attention", "mlp")
KINDS = (*LINEAR_KINDS, "norm")
OWN_KINDS = {"exact": KINDS, "masked": LINEAR_KINDS, "emr": LINEAR_KINDS}
"""What is decoupled where the recipe names no roles: a mask is for matrices."""
Piece = tuple[float, Factor]


@dataclass(frozen=True, kw_only=True)
class Side:
    """One kind of an expert's tokens, and the weights that they were trained with.

    Attributes:
        setting: recipe, base and experts.
        expert: whose tokens.
        backbone: the language model as these tokens saw it: `expert.own` or `expert.text`.
        stream: the stream's name in the model.
    """

    setting: Setting
    expert: Expert
    backbone: Backbone
    stream: str

    @property
    def kind(self) -> str:
        """Whether these are the expert's media tokens, `own`, or its text, `text`."""
        is_text = self.expert.decoupled and self.backbone is self.expert.text
        return "text" if is_text else "own"

    @property
    def peers(self) -> tuple[Backbone, ...]:
        """Every expert's backbone as the same kind of its tokens saw it."""
        experts = self.setting.experts
        return tuple(one.text if self.kind == "text" else one.own for one in experts)

    @cached_property
    def matrices(self) -> tuple[str, ...]:
        """Weights of linear layers that the stream holds: every chosen role in every layer."""
        chosen = [name for name in self._chosen if len(self.info(name).shape) == 2]
        touched = chosen
        if self.setting.recipe.modality == "exact":
            touched = [n for n in chosen if self._differs(n) and self._pieces(n) != []]
        places = {role_word(name) for name in touched}, {layer_of(name) for name in touched}
        return tuple(n for n in chosen if role_word(n) in places[0] and layer_of(n) in places[1])

    @cached_property
    def norms(self) -> tuple[str, ...]:
        """Weights of norms that the stream holds, likewise."""
        chosen = [name for name in self._chosen if len(self.info(name).shape) == 1]
        touched = [name for name in chosen if self._differs(name)]
        words = {role_word(name) for name in touched}
        layers = {layer_of(name) for name in (*touched, *self.matrices)}
        return tuple(n for n in chosen if role_word(n) in words and layer_of(n) in layers)

    @cached_property
    def biases(self) -> tuple[str, ...]:
        """Biases of the linear layers that the stream holds."""
        every = self.setting.base.weights.origins
        names = (name.removesuffix("weight") + "bias" for name in self.matrices)
        return tuple(name for name in names if name in every)

    @cached_property
    def pieces(self) -> Mapping[str, list[Piece]] | None:
        """Per matrix, own delta minus merged text delta as scaled factors; None if not so."""
        found = {name: self._pieces(name) for name in self.matrices}
        if any(map(self._differs, self.biases)):
            return None
        pieces = {name: one for name, one in found.items() if one is not None}
        return pieces if len(pieces) == len(found) else None

    @property
    def exact_rank(self) -> int | None:
        """The least rank of factors that hold every matrix exactly; None if none is known."""
        if self.pieces is None:
            return None
        return max((sum(f.rank for _, f in found) for found in self.pieces.values()), default=0)

    def info(self, name: str) -> TensorInfo:
        """Dtype and shape of a backbone tensor."""
        return self.setting.base.weights.source.infos()[name]

    def num_bytes(self, name: str) -> int:
        """Of a tensor as it would be written."""
        info = self.info(name)
        return info.num_elements * self.setting.dtype(info.dtype).itemsize

    @cached_property
    def _chosen(self) -> list[str]:
        """Matrices and norms of the roles and layers that the recipe names."""
        streams = self.setting.recipe.streams
        names = [name for name in backbone_names(self.setting) if self._fits(name)]
        words = streams.roles or OWN_KINDS[self.setting.recipe.modality]
        known = {word for name in names for word in (role_of(name), role_word(name))}
        _check("roles", [word for word in words if word not in known], sorted(known))
        layers = range(self.setting.num_layers)
        _check("layers", [i for i in streams.layers or () if i not in layers], list(layers))
        return [
            name
            for name in names
            if {role_of(name), role_word(name)} & set(words)
            and (streams.layers is None or layer_of(name) in (None, *streams.layers))
        ]

    def _fits(self, name: str) -> bool:
        kind, dimensions = role_of(name), len(self.info(name).shape)
        return (kind in LINEAR_KINDS and dimensions == 2) or (kind == "norm" and dimensions == 1)

    def _differs(self, name: str) -> bool:
        """Whether own and merged tensor may differ: not if nobody changed the base's."""
        sides = [(self.expert, self.backbone), *((one, one.text) for one in self.setting.experts)]
        return not all(self._is_base(expert, backbone, name) for expert, backbone in sides)

    def _is_base(self, expert: Expert, backbone: Backbone, name: str) -> bool:
        untouched = backbone.weights.origins[name] == backbone.host.origins[name]
        return untouched and self.setting.on_base(expert)

    def _pieces(self, name: str) -> list[Piece] | None:
        text = self.setting.text_factors(name)
        own = self.backbone.factors.get(name)
        host = self.backbone.host
        known = own is not None or self.backbone.weights.origins[name] == host.origins[name]
        if text is None or not known or not self.setting.on_base(self.expert):
            return None
        pieces = [(1.0, own)] if own is not None else []
        for coefficient, factor in text:
            # A single-adapter expert's own delta is one of the merged ones: one piece for both.
            if own is not None and factor.b_name == own.b_name and factor.source is own.source:
                pieces[0] = (pieces[0][0] - coefficient, own)
            else:
                pieces.append((-coefficient, factor))
        return [piece for piece in pieces if piece[0] != 0.0]


def role_word(name: str) -> str:
    """The last path component of a tensor's module: `q_proj`, `input_layernorm`."""
    return name.rpartition(".")[0].rpartition(".")[2]


def _check(key: str, unknown: Sequence[object], known: Sequence[object]) -> None:
    if unknown:
        raise PlanError(
            f"streams: {key}: found {', '.join(map(str, unknown))}, which this backbone does not "
            f"have; expected some of {', '.join(map(str, known))}. Mend `streams:` in the recipe."
        )
