"""Values of jobs, tile by tile: everything in fp32, nothing rounded before the output."""

from collections.abc import Mapping
from functools import partial
from typing import NoReturn

import torch

from omnicompose.errors import MergeError
from omnicompose.merging.finite import all_finite, refuse_nonfinite
from omnicompose.merging.fused import StoredTiles, fused_method, stored_of
from omnicompose.merging.job import (
    Copy,
    Derived,
    Difference,
    Factors,
    Fill,
    Job,
    Measure,
    Merge,
    Node,
    Operand,
    Part,
    Rows,
    TensorRef,
    children,
    merges,
    needs_whole,
    sees_whole,
    survey_of,
)
from omnicompose.merging.method import (
    BundleMethod,
    Carries,
    LowRank,
    Measured,
    MergeContext,
    ObservingMethod,
    TensorGroup,
)
from omnicompose.merging.passes import context_of, observe_passes, tiles_of_pass
from omnicompose.merging.pieces import Joiner
from omnicompose.merging.reading import Reader
from omnicompose.merging.statistics import Statistics, TiledSum
from omnicompose.merging.tile_loop import MakeTileObserver, Tile, TileLoop, TileObserver
from omnicompose.merging.workspace import Workspace
from omnicompose.tensors.low_rank import thin


class Evaluator:
    """Computes the nodes of one job at a time, in the buffers of one thread."""

    def __init__(
        self,
        workspace: Workspace,
        tile_elements: int,
        *,
        allow_nonfinite: bool,
        device: torch.device,
        fuses: bool = False,
    ) -> None:
        """Work in `workspace`, reading at most `tile_elements` at a time.

        Args:
            workspace: the buffers of one thread.
            tile_elements: of element-wise methods.
            allow_nonfinite: let NaN and infinities through.
            device: where the arithmetic runs.
            fuses: use the compiled loops of methods that have them.
        """
        self._workspace = workspace
        self._tile_elements = tile_elements
        self._allow_nonfinite = allow_nonfinite
        self._device = device
        self._fuses = fuses
        self._stored = StoredTiles(workspace, tile_elements)
        self._reader = Reader(workspace, tile_elements, device)
        self._trusts_operands = False
        self._known: Mapping[int, Statistics] = {}
        self._statistics: dict[int, Statistics] = {}
        self._joiner = Joiner(workspace, self._reader, self._node)
        self.measures: dict[str, float] = {}

    def begin(self, job: Job, known: Mapping[int, Statistics], until: Merge | None = None) -> None:
        """Gather the statistics that the merges of a job need.

        Args:
            job: what will be computed next.
            known: statistics that span the whole model, by identity of the merge.
            until: go no further than what this merge of the job is computed from.
        """
        self._joiner.forget()
        self._statistics.clear()
        self.measures = {}
        self._known = known
        self._trusts_operands = _carries(job)
        for merge in merges(job if until is None else until):
            survey = survey_of(merge)
            if survey.num_passes and survey.scope == "tensor":
                self._statistics[id(merge)] = observe_passes(merge, partial(self.observe, merge))
                # Every operand has been looked at by now.
                self._trusts_operands |= merge is job and _reads_only(job)

    def end(self) -> None:
        """Forget the job, and give back the memory of whole tensors."""
        self._statistics.clear()
        self._joiner.forget()
        self._workspace.shrink(self._tile_elements)

    def _context(self, merge: Merge) -> MergeContext:
        found = self._statistics.get(id(merge)) or self._known.get(id(merge), {})
        return context_of(merge, found)

    def observe(self, merge: Merge, earlier: Statistics, observe_pass: int) -> Statistics:
        """Statistics of one pass, added up over the tiles of one merge, in their order."""
        method: ObservingMethod = merge.method  # type: ignore[assignment]  # survey_of vouches
        context, size = context_of(merge, earlier), merge.output.num_elements
        self._reader.looks = not (self._allow_nonfinite or self._trusts_operands)
        total = TiledSum(most_collected=int(survey_of(merge).collects * size))
        see_stored = self._tile_observer(merge, context, observe_pass)
        step = size if needs_whole(merge) else self._tile_elements
        stretches = tiles_of_pass(merge, observe_pass, step)
        if see_stored is not None:
            for position, stored in self._stored.walk(merge, stretches):
                total.add(see_stored(Tile(position, size), stored))
            return total.result()
        for start, count in stretches:
            self._workspace.reset()
            group = self._group(merge, start, count)
            total.add(method.observe(group, context, observe_pass))
        return total.result()

    def _tile_observer(
        self, merge: Merge, context: MergeContext, observe_pass: int
    ) -> TileObserver | None:
        if not self._fuses or fused_method(merge) is None:
            return None
        make: MakeTileObserver | None = getattr(merge.method, "tile_observer", None)
        return None if make is None else make(merge.expert_names, context, observe_pass)

    def loop(self, job: Job) -> TileLoop | None:
        """The compiled loop that gives what `values` gives for a job, where there is one."""
        method = fused_method(job) if self._fuses else None
        if method is None:
            return None
        merge: Merge = job  # type: ignore[assignment]  # `fused_method` has looked
        return method.tile_loop(stored_of(merge), self._context(merge))

    def values(self, job: Job, start: int, count: int) -> torch.Tensor:
        """Elements `start .. start + count` of a job's result: flat, fp32, on the device."""
        self._workspace.reset()
        self._reader.looks = not (self._allow_nonfinite or self._trusts_operands)
        values = self._node(job, start, count)
        if not self._allow_nonfinite and not all_finite(values):
            self.refuse(job, start, count)
        return values

    def refuse(self, job: Job, start: int, count: int) -> NoReturn:
        """Compute once more with an eye on the operands, so that the one at fault is named.

        Raises:
            MergeError: naming the tensor, the file or method, the value and the index.
        """
        self._reader.looks = True
        self._workspace.reset()
        refuse_nonfinite(self._node(job, start, count), job.output, _origin(job), start)

    def _node(self, node: Node, start: int, count: int) -> torch.Tensor:
        match node:
            case TensorRef():
                return self._reader.read(node, start, count)
            case Merge():
                return self._merged(node, start, count)
            case Part():
                return self._part(node, start, count)
            case Difference():
                return self._difference(node, start, count)
            case Rows():
                return self._joiner.rows(node, start, count)
            case Factors():
                return self._joiner.factors(node)
            case Derived():
                return self._derived(node, start, count)
            case Fill() | Copy():
                raise AssertionError("filled by _rows; copies are not computed")

    def _merged(self, merge: Merge, start: int, count: int) -> torch.Tensor:
        group = self._group(merge, start, count)
        merged = merge.method.merge(group, self._context(merge))
        if merged.shape != group.experts[0].shape:
            raise MergeError(
                f"tensor '{merge.output.name}': method {merge.method.spec.name} gave "
                f"{list(merged.shape)}; expected {list(group.experts[0].shape)}. "
                "This is a mistake of the method: report it."
            )
        return merged.reshape(-1)

    def _group(self, merge: Merge, start: int, count: int) -> TensorGroup:
        shape = merge.output.shape
        whole = sees_whole(merge)
        base = None if merge.base is None else self._node(merge.base, start, count)
        factors = self._low_rank(merge) if merge.use_factors else ()
        if base is not None and thin(factors, shape):
            # The factors are all that the method looks at: no dense expert is formed.
            experts = [base] * len(merge.experts)
        else:
            experts = [self._node(expert, start, count) for expert in merge.experts]
        return TensorGroup(
            name=merge.key or merge.output.name,
            role=merge.role,
            layer=merge.layer,
            num_layers=merge.num_layers,
            shape=shape,
            base=base.view(shape) if whole and base is not None else base,
            experts=tuple(expert.view(shape) if whole else expert for expert in experts),
            expert_names=merge.expert_names,
            weights=merge.weights,
            offset=start,
            factors=factors,
            measured=tuple(self._measured(one, merge, start, count) for one in merge.measures),
        )

    def _measured(
        self, measure: Measure | None, merge: Merge, start: int, count: int
    ) -> Measured | None:
        """The tile of a sum that has the tensor's shape; the whole of any other."""
        if measure is None:
            return None
        info = measure.ref.info
        if info.shape == merge.output.shape and merge.method.spec.granularity == "element":
            total = self._reader.read(measure.ref, start, count)
        else:
            total = self._reader.read(measure.ref, 0, info.num_elements).view(info.shape)
        return Measured(total=total, count=measure.count)

    def _low_rank(self, merge: Merge) -> tuple[LowRank | None, ...]:
        found = (
            expert.source.factors(expert.name)
            if isinstance(expert, TensorRef) and expert.info.shape == merge.output.shape
            else None
            for expert in merge.experts
        )
        return tuple(None if f is None else _to_device(f, self._device) for f in found)

    def _part(self, part: Part, start: int, count: int) -> torch.Tensor:
        """The bundle's shared delta through one expert's mask, on the base."""
        merge = part.merge
        method: BundleMethod = merge.method  # type: ignore[assignment]  # its spec says bundle
        context = self._context(merge)
        group = self._group(merge, start, count)
        assert group.base is not None
        own = method.expert_part(group, context, part.expert)
        shared = (method.merge(group, context) - group.base) * own.mask
        return torch.add(group.base, shared, alpha=own.scale).reshape(-1)

    def _derived(self, job: Derived, start: int, count: int) -> torch.Tensor:
        each = job.maker.elements_each
        size = job.operands[0].info.num_elements
        begin, taken = (0, size) if job.maker.whole else (start * each, count * each)
        taken = min(taken, size - begin)
        operands = [self._as_written(operand, begin, taken) for operand in job.operands]
        values, measures = job.maker.make(operands)
        for name, value in measures.items():
            self.measures[name] = self.measures.get(name, 0.0) + value
        return values

    def _as_written(self, operand: Operand, start: int, count: int) -> torch.Tensor:
        """A merge that another job writes counts as rounded there."""
        values = self._node(operand, start, count)
        if isinstance(operand, Merge):
            values = values.to(operand.output.dtype).to(torch.float32)
        return values

    def _difference(self, job: Difference, start: int, count: int) -> torch.Tensor:
        minuend = self._node(job.minuend, start, count)
        return minuend - self._as_written(job.subtrahend, start, count)


def _reads_only(job: Job) -> bool:
    return isinstance(job, Merge) and all(isinstance(child, TensorRef) for child in children(job))


def _carries(job: Job) -> bool:
    if not (isinstance(job, Merge) and _reads_only(job)):
        return False
    # Asking a protocol with isinstance takes longer than merging a small tensor.
    carries: Carries | None = getattr(job.method, "carries", None)
    return carries is not None and carries(job.weights, job.parameters)


def _origin(job: Job) -> str:
    names = ", ".join(dict.fromkeys(merge.method.spec.name for merge in merges(job)))
    return f"the result of {names or 'arithmetic'}"


def _to_device(factors: LowRank, device: torch.device) -> LowRank:
    return LowRank(A=factors.A.to(device), B=factors.B.to(device), scale=factors.scale)
