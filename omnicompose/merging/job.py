"""What is to be computed for every output tensor, as plain data that is built from headers alone.

A job names one output tensor and the operands it comes from. Operands nest: a `Difference` may
subtract a `Merge` that another job writes; it is computed again, tile by tile, not read back.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, cast

from omnicompose.merging.derived import Maker
from omnicompose.merging.method import Method, ObservingMethod, ParameterValue, Role, Survey
from omnicompose.tensors.source import TensorInfo, TensorSource, tensor_info


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorRef:
    """A tensor of a source, or a run of its rows.

    Attributes:
        source: where it is read.
        name: its name there.
        first_row: first index along the outermost axis.
        num_rows: how many of them; None: all that follow.
    """

    source: TensorSource
    name: str
    first_row: int = 0
    num_rows: int | None = None

    @property
    def info(self) -> TensorInfo:
        """Dtype and shape of what the reference gives (rows cut).

        Raises:
            SourceError: the source lacks the tensor.
        """
        whole = tensor_info(self.source, self.name)
        if self.first_row == 0 and self.num_rows is None:
            return whole
        rows = whole.shape[0] - self.first_row if self.num_rows is None else self.num_rows
        return TensorInfo(name=self.name, dtype=whole.dtype, shape=(rows, *whole.shape[1:]))

    @property
    def start(self) -> int:
        """Flat index, in the source's tensor, of this reference's first element."""
        if self.first_row == 0:
            return 0
        whole = tensor_info(self.source, self.name)
        return self.first_row * (whole.num_elements // whole.shape[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """What was measured of one expert for one tensor, in a file of statistics.

    Attributes:
        ref: the sum.
        count: what it is a sum over: tokens or examples.
    """

    ref: TensorRef
    count: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """The output is what a method makes of the experts' tensors.

    Attributes:
        output: name, dtype and shape as written.
        method: the method itself; its `spec` says what it needs.
        parameters: every parameter of the method, defaults filled in.
        base: the common base's tensor; None for methods without one.
        experts: one operand per expert; every operand has the output's shape.
        expert_names: keys of the experts, stable under re-ordering.
        weights: one coefficient per expert.
        role: what the tensor does in the backbone.
        layer: its block; None outside the blocks.
        num_layers: blocks of the backbone.
        seed: of the recipe.
        key: the tensor's name in the backbone, as methods see it; the output's name by default.
        use_factors: the experts' sources know their deltas to exactly this base as factors, and
            the method may work on them.
        measures: per expert what was measured of it for this tensor; empty if nothing was.
    """

    output: TensorInfo
    method: Method
    parameters: Mapping[str, ParameterValue] = field(default_factory=dict)
    base: "Operand | None" = None
    experts: "tuple[Operand, ...]"
    expert_names: tuple[str, ...]
    weights: tuple[float, ...]
    role: Role = "other"
    layer: int | None = None
    num_layers: int = 0
    seed: int = 0
    key: str = ""
    use_factors: bool = False
    measures: tuple[Measure | None, ...] = ()

    @property
    def info(self) -> TensorInfo:
        """Dtype and shape of the result."""
        return self.output


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One expert's weight as a bundle gives it: `base + scale * mask * (merged - base)`.

    Attributes:
        merge: by a method whose output is a bundle.
        expert: number of the expert.
    """

    merge: Merge
    expert: int

    @property
    def info(self) -> TensorInfo:
        """Dtype and shape of the merged tensor."""
        return self.merge.output


Operand = TensorRef | Merge | Part


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """New rows that repeat the mean row of a tensor, or zeros.

    Attributes:
        num_rows: how many.
        mean_of: the tensor whose rows are averaged (in fp64); None for zeros.
    """

    num_rows: int
    mean_of: TensorRef | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaledFactor:
    """One piece of a concatenated LoRA factor: `scale * tensor`."""

    tensor: TensorRef
    scale: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """The output is one tensor of a source: its very bytes if the dtypes agree, else cast once."""

    output: TensorInfo
    tensor: TensorRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The output is made of runs of rows, one after the other (vocabulary surgery)."""

    output: TensorInfo
    pieces: tuple[TensorRef | Merge | Fill, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The output is `minuend - subtrahend`: the dense correction of a stream.

    A `Merge` that is subtracted counts as it is written, rounded to its own output dtype, so that
    the written text weight plus the correction is the minuend.
    """

    output: TensorInfo
    minuend: Operand
    subtrahend: Operand


@dataclass(frozen=True, slots=True, kw_only=True)
class Factors:
    """The output is scaled LoRA factors side by side along the rank axis.

    Attributes:
        output: `[rank, in]` for `lora_A` (axis 0), `[out, rank]` for `lora_B`; what the pieces'
            ranks leave of it is zero.
        pieces: the factors in order.
        axis: 0 for A, 1 for B.
    """

    output: TensorInfo
    pieces: tuple[ScaledFactor, ...]
    axis: Literal[0, 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Derived:
    """The output is made of operands by a rule of its own: a mask, a truncated correction.

    A `Merge` among the operands counts as it is written, rounded to its own output dtype.
    """

    output: TensorInfo
    operands: tuple[Operand, ...]
    maker: Maker


Job = Copy | Merge | Rows | Difference | Factors | Derived
Node = Operand | Fill | Job


def children(node: Node) -> tuple[Node, ...]:
    """The operands that a node is computed from, in order."""
    match node:
        case TensorRef():
            return ()
        case Merge():
            measured = tuple(one.ref for one in node.measures if one is not None)
            return (*(() if node.base is None else (node.base,)), *node.experts, *measured)
        case Part():
            return (node.merge,)
        case Copy():
            return (node.tensor,)
        case Rows():
            return node.pieces
        case Difference():
            return (node.minuend, node.subtrahend)
        case Factors():
            return tuple(piece.tensor for piece in node.pieces)
        case Derived():
            return node.operands
        case Fill():
            return () if node.mean_of is None else (node.mean_of,)


def walk(node: Node) -> list[Node]:
    """A node and all it is computed from, operands before what uses them."""
    found: list[Node] = []
    for child in children(node):
        if isinstance(child, TensorRef):
            found.append(child)
        else:
            found += walk(child)
    found.append(node)
    return found


def references(node: Node) -> tuple[TensorRef, ...]:
    """Every tensor that is read for a node, once per use."""
    return tuple(found for found in walk(node) if isinstance(found, TensorRef))


def merges(node: Node) -> tuple[Merge, ...]:
    """Every merge within a node, inner ones first."""
    return tuple(found for found in walk(node) if isinstance(found, Merge))


def survey_of(merge: Merge) -> Survey:
    """What the merge's method has to observe under its parameters."""
    if merge.method.spec.num_passes <= 1:
        return Survey(num_passes=0)
    return cast(ObservingMethod, merge.method).survey(merge.parameters)


def sees_whole(merge: Merge) -> bool:
    """Whether the method is given the tensor whole, in its shape, and not tile by tile."""
    spec = merge.method.spec
    unmeasured = bool(merge.measures) and not any(merge.measures)
    return spec.granularity != "element" and not (spec.plain_unmeasured and unmeasured)


def needs_whole(node: Node) -> bool:
    """Whether a node can only be computed as a whole, not tile by tile."""
    return any(
        isinstance(found, Factors)
        or (isinstance(found, Derived) and found.maker.whole)
        or (isinstance(found, Merge) and sees_whole(found))
        for found in walk(node)
    )
