"""The one interface of every merging method: what it declares, is given and returns."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import torch

from omnicompose.tensors.low_rank import LowRank as LowRank

Granularity = Literal["element", "tensor", "block", "model"]
Role = Literal["attention", "mlp", "norm", "bias", "embedding", "head", "other"]
ParameterValue = float | int | bool | str | Mapping[str, float]
Statistic = Literal["gram", "merged_gram", "fisher", "attention", "coefficients"]
"""What `omnicompose collect` measures: Grams of inputs (of the model itself, or of the merged one),
squared gradients, shares of attention on media. Coefficients are what a search writes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One setting of a method, as `omnicompose methods NAME` prints it.

    Attributes:
        name: the key under `parameters:` in a recipe.
        default: its value when the recipe does not name it.
        description: meaning, unit and range.
        minimum: least value allowed, if numeric.
        maximum: greatest value allowed, if numeric.
        choices: the only values allowed, if a word.
        per_expert: whether a mapping expert name -> number may stand in place of one number.
    """

    name: str
    default: ParameterValue
    description: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    per_expert: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodSpec:
    """What a method needs and promises; everything `omnicompose methods` prints.

    Attributes:
        name: the key under `method:` in a recipe.
        summary: one line: what it is for.
        formula: the merged tensor in ASCII, in the symbols of its file's docstring.
        paper: where it comes from (arXiv id or "folklore").
        needs_base: whether the experts' common base must be given.
        arity: least and greatest number of experts (None: no limit).
        granularity: the least piece that `merge` can be called on. `element`: any flat tile.
        parameters: its settings.
        profiles: named sets of reference behaviour, each with the parameters it stands for.
        num_passes: how often the inputs are read at most; more than 1 means that it has `observe`.
        weighted: uses the experts' weights; a recipe that gives unequal ones to a method that does
            not is a mistake.
        stochastic: draws random numbers, keyed by (seed, expert, tensor name, element index).
        factored_ok: works on low-rank factors without forming dense deltas.
        dense_when: values of parameters under which it needs dense deltas after all.
        output: one tensor, or a bundle of a shared delta with parts per expert.
        measures: what has to be measured of its experts on data; None: it looks at weights alone.
        measured: which experts: every one, or the first.
        plain_unmeasured: works element by element on tensors that were not measured.
        data: for methods whose coefficients are searched for: what the search looks at.
        measured_when: values of parameters under which it does measure; empty: always.
    """

    name: str
    summary: str
    formula: str
    paper: str
    needs_base: bool
    arity: tuple[int, int | None] = (1, None)
    granularity: Granularity = "tensor"
    parameters: tuple[Parameter, ...] = ()
    profiles: Mapping[str, Mapping[str, ParameterValue]] = field(default_factory=dict)
    num_passes: int = 1
    weighted: bool = True
    stochastic: bool = False
    factored_ok: bool = False
    dense_when: Mapping[str, ParameterValue] = field(default_factory=dict)
    output: Literal["tensor", "bundle"] = "tensor"
    measures: Statistic | None = None
    measured: Literal["every", "first"] = "every"
    measured_when: Mapping[str, ParameterValue] = field(default_factory=dict)
    plain_unmeasured: bool = False
    data: str = ""

    def measures_under(self, parameters: Mapping[str, ParameterValue]) -> Statistic | None:
        """What has to be measured under these parameters; None: nothing."""
        needed = all(parameters.get(name) == value for name, value in self.measured_when.items())
        return self.measures if needed else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What was measured of one expert for one tensor.

    Attributes:
        total: a sum over data, fp32; for `fisher` the tile of it that belongs to the group's.
        count: what it is a sum over: tokens (Grams) or examples (Fisher, attention).
    """

    total: torch.Tensor
    count: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorGroup:
    """One named tensor of all experts, or the same flat tile of each; everything in fp32.

    Attributes:
        name: the tensor's name in the backbone (`model.layers.0.mlp.up_proj.weight`).
        role: what it does in the backbone.
        layer: its block, counted from 0; None outside the blocks.
        num_layers: how many blocks the backbone has.
        shape: of the whole tensor, also when this is a tile of it.
        base: the base's tensor; None for methods without a base.
        experts: one tensor per expert, each of base's shape (1-D for a tile).
        expert_names: keys of the experts, stable under re-ordering; random methods key on them.
        weights: one coefficient per expert, as the recipe gives it, not normalised.
        offset: index of this tile's first element in the flattened tensor; 0 for whole tensors.
        factors: per expert its delta as factors, where it has one and the method can use it.
        measured: per expert what was measured of it for this tensor; empty if nothing was.
    """

    name: str
    role: Role = "other"
    layer: int | None = None
    num_layers: int = 0
    shape: tuple[int, ...]
    base: torch.Tensor | None
    experts: tuple[torch.Tensor, ...]
    expert_names: tuple[str, ...]
    weights: tuple[float, ...]
    offset: int = 0
    factors: tuple[LowRank | None, ...] = ()
    measured: tuple[Measured | None, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeContext:
    """What does not change from tile to tile.

    Attributes:
        parameters: every parameter of the method, defaults filled in, values checked.
        seed: of the recipe; random methods combine it with expert and tensor names.
        statistics: what `observe` returned, added up over all tiles (methods with passes > 1).
    """

    parameters: Mapping[str, ParameterValue]
    seed: int = 0
    statistics: Mapping[str, torch.Tensor] = field(default_factory=dict)


class Method(Protocol):
    """A merging method. Stateless: the same group and context give the same tensor, always."""

    @property
    def spec(self) -> MethodSpec:
        """What it needs and promises."""
        ...

    def merge(self, group: TensorGroup, context: MergeContext) -> torch.Tensor:
        """The merged tensor (base included where there is one), fp32, of the experts' shape."""
        ...


Carries = Callable[[tuple[float, ...], Mapping[str, ParameterValue]], bool]
"""A method may have `carries(weights, parameters)`: whether every NaN and infinity of its operands
is sure to show in its result. The engine then looks at the result instead of at every operand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What a method has to observe before it merges, under the parameters it was given.

    Attributes:
        num_passes: how many times every tile is observed; 0: merge at once.
        scope: what one sum of statistics spans: the tiles of one tensor, or of the whole model.
        num_sampled: the first so many passes do with some tiles of every tensor.
        num_spare: so many passes are only needed where others have failed.
        collects: share of a tensor's entries, per expert, that the statistics hold at most.
    """

    num_passes: int
    scope: Literal["tensor", "model"] = "tensor"
    num_sampled: int = 0
    num_spare: int = 0
    collects: float = 0.0


class ObservingMethod(Method, Protocol):
    """A method that must see every tile once (or more) before it can merge the first.

    `observe` is called for pass 0 .. survey(parameters).num_passes - 1 over all tiles of its scope;
    after each pass the engine adds the returned tensors up by key. Whatever is returned must be
    additive over tiles.
    """

    def survey(self, parameters: Mapping[str, ParameterValue]) -> Survey:
        """How often to observe, and over what the statistics add up."""
        ...

    def observe(
        self, group: TensorGroup, context: MergeContext, observe_pass: int
    ) -> Mapping[str, torch.Tensor]:
        """Additive statistics of one tile; `context.statistics` holds those of earlier passes."""
        ...


@runtime_checkable
class SettlingMethod(ObservingMethod, Protocol):
    """A method that can tell early what its statistics come to.

    An engine that asks saves passes and memory; one that never does gets the same tensors.
    """

    def needs(
        self, expert_names: tuple[str, ...], context: MergeContext, observe_pass: int
    ) -> bool:
        """Whether a pass can still add to what `context.statistics` tells."""
        ...

    def settle(
        self, expert_names: tuple[str, ...], context: MergeContext, observe_pass: int
    ) -> Mapping[str, torch.Tensor]:
        """The statistics to go on with after a pass, in place of `context.statistics`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertPart:
    """What turns the shared delta of a bundle into one expert's: `scale * mask * shared`.

    Attributes:
        mask: which entries of the shared delta the expert uses; bool, of the tile's shape.
        scale: number that the kept entries are multiplied by.
    """

    mask: torch.Tensor
    scale: float


class BundleMethod(Method, Protocol):
    """A method whose result is a shared delta (`merge` returns base + it) and a part per expert."""

    def expert_part(self, group: TensorGroup, context: MergeContext, expert: int) -> ExpertPart:
        """Mask and scale of expert number `expert`; statistics as for `merge`."""
        ...
