"""What is to be computed for every output tensor, as plain data that is built from headers alone.

A job names one output tensor and the operands it comes from. Operands nest: a `Difference` may
subtract a `Merge` that another job writes; it is computed again, tile by tile, not read back.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from omnicompose.merging.method import Method, ParameterValue, Role
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

    @property
    def info(self) -> TensorInfo:
        """Dtype and shape of the result."""
        return self.output


Operand = TensorRef | Merge


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

    A `Merge` operand counts as it is written, rounded to its own output dtype, so that the written
    text weight plus the correction is the minuend.
    """

    output: TensorInfo
    minuend: Operand
    subtrahend: Operand


@dataclass(frozen=True, slots=True, kw_only=True)
class Factors:
    """The output is scaled LoRA factors side by side along the rank axis.

    Attributes:
        output: `[sum of ranks, in]` for `lora_A` (axis 0), `[out, sum of ranks]` for `lora_B`.
        pieces: the factors in order.
        axis: 0 for A, 1 for B.
    """

    output: TensorInfo
    pieces: tuple[ScaledFactor, ...]
    axis: Literal[0, 1]


Job = Copy | Merge | Rows | Difference | Factors
