"""A model in memory whose weights are `W_0 + sum_i c_i D_i`, for coefficients that change.

The gradient of any loss with regard to a coefficient is the inner product of the weights' gradient
and the delta, so one backward pass through the model as it is gives those of all coefficients.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn

from omnicompose.families import Role, role_of
from omnicompose.merging.job import Merge, TensorRef
from omnicompose.plan.merge_plan import make_merge_plan
from omnicompose.recipe import MergeRecipe
from omnicompose.statistics.encoding import Example
from omnicompose.statistics.subject import Subject
from omnicompose.tensors.source import read_tensor

MATRICES: tuple[Role, ...] = ("attention", "mlp", "other")


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """One tensor that experts moved.

    Attributes:
        name: in the backbone, or in its encoder or connector.
        layer: its block; None outside.
        parameter: of the model, whose values are set.
        base: `[...]` fp32.
        deltas: one per expert, of base's shape.
        chunks: runs of the flat tensor with a coefficient of their own.
    """

    name: str
    layer: int | None
    parameter: nn.Parameter
    base: torch.Tensor
    deltas: tuple[torch.Tensor, ...]
    chunks: int = 1


Table = list[torch.Tensor]
"""Per moved tensor the coefficients `[experts, chunks]`."""


class Bench:
    """The model and everything that coefficients apply to."""

    def __init__(self, subject: Subject, moved: Sequence[Moved], experts: Sequence[str]) -> None:
        """Hold the model, loaded; see `open_bench`."""
        self.subject, self.moved, self.experts = subject, tuple(moved), tuple(experts)

    def table(self, start: float) -> Table:
        """The same coefficient everywhere."""
        return [torch.full((len(self.experts), one.chunks), start) for one in self.moved]

    @torch.no_grad()
    def take(self, table: Table) -> None:
        """Give the model the weights of these coefficients."""
        for one, coefficients in zip(self.moved, table, strict=True):
            total = one.base.clone()
            for delta, row in zip(one.deltas, coefficients, strict=True):
                total += spread(row, delta)
            one.parameter.copy_(total)

    def take_expert(self, number: int) -> None:
        """Give the model one expert's own weights."""
        table = self.table(0.0)
        for coefficients in table:
            coefficients[number] = 1.0
        self.take(table)

    def learning(self, wanted: bool) -> None:
        """Whether gradients of the weights are kept."""
        for one in self.moved:
            one.parameter.requires_grad_(wanted)
            one.parameter.grad = None

    @torch.no_grad()
    def slopes(self) -> Table:
        """Gradients with regard to the coefficients, from those of the weights, which are freed."""
        found = []
        for one in self.moved:
            slope = one.parameter.grad
            if slope is None:
                found.append(torch.zeros(len(self.experts), one.chunks))
                continue
            rows = [gathered(slope * delta, one.chunks) for delta in one.deltas]
            found.append(torch.stack(rows))
            one.parameter.grad = None
        return found

    def logits(self, example: Example) -> torch.Tensor:
        """`[L, words]` of one example."""
        output = self.subject.model(**example.inputs, use_cache=False)
        return cast(torch.Tensor, output.logits[0])

    def states(self, example: Example) -> tuple[torch.Tensor, torch.Tensor]:
        """Hidden states `[layers + 1, L, D]`, the last one normed, and logits `[L, words]`."""
        output = self.subject.model(**example.inputs, use_cache=False, output_hidden_states=True)
        return torch.stack([one[0] for one in output.hidden_states]), output.logits[0]


def spread(row: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
    """`delta` times a coefficient per run of its flat elements."""
    if row.numel() == 1:
        return delta * row
    length = -(-delta.numel() // row.numel())
    return delta * row.repeat_interleave(length)[: delta.numel()].view(delta.shape)


def gathered(products: torch.Tensor, chunks: int) -> torch.Tensor:
    """Sums over the runs of a flat tensor, `[chunks]`."""
    length = -(-products.numel() // chunks)
    padded = nn.functional.pad(products.reshape(-1), (0, length * chunks - products.numel()))
    return padded.view(chunks, length).sum(1)


def open_bench(
    recipe: MergeRecipe,
    subject: Subject,
    *,
    only_matrices: bool,
    density: float = 1.0,
) -> tuple[Bench, ExitStack]:
    """Load the base's weights, and the deltas of a recipe's models.

    Args:
        recipe: of the merge; every tensor that its roles give to the method and that a model has
            changed is moved, in encoders and connectors too.
        subject: the base, opened; it gets all its weights.
        only_matrices: norms, biases, embeddings and head stay at the base.
        density: share of each delta's largest entries that is kept.

    Returns:
        The bench, and what to close when it is no longer needed.
    """
    plain = recipe.model_copy(
        update={"method": "task_arithmetic", "parameters": {}, "profile": None, "then": ()}
    )
    plan = make_merge_plan(plain).plan
    merges = {job.output.name: job for job in plan.jobs if isinstance(job, Merge)}
    stack = ExitStack()
    stack.enter_context(subject.holding(("",)))
    tie(subject)
    parameters = dict(subject.model.named_parameters())
    found = [
        _moved(merges[ref.name], parameters[path], density)
        for path, ref in subject.weights.items()
        if ref.name in merges
        and path in parameters
        and (not only_matrices or role_of(merges[ref.name].key) in MATRICES)
    ]
    moved = [one for one in found if any(bool(delta.any()) for delta in one.deltas)]
    return Bench(subject, moved, [model.label for model in recipe.models]), stack


def tie(subject: Subject) -> None:
    """Tied parameters are one again: they were given their weights one by one."""
    for name, source in cast(Mapping[str, str], subject.model.all_tied_weights_keys).items():
        path, _, leaf = name.rpartition(".")
        own = subject.model.get_parameter(source)
        subject.model.get_submodule(path)._parameters[leaf] = own


def _moved(job: Merge, parameter: nn.Parameter, density: float) -> Moved:
    assert isinstance(job.base, TensorRef)
    base = read_tensor(job.base.source, job.base.name).float()
    deltas = []
    for expert in job.experts:
        assert isinstance(expert, TensorRef)
        delta = read_tensor(expert.source, expert.name).float() - base
        deltas.append(_trimmed(delta, density))
    return Moved(
        name=job.key, layer=job.layer, parameter=parameter, base=base, deltas=tuple(deltas)
    )


def _trimmed(delta: torch.Tensor, density: float) -> torch.Tensor:
    if density >= 1.0:
        return delta
    count = max(1, round(density * delta.numel()))
    least = delta.abs().flatten().kthvalue(delta.numel() - count + 1).values
    return delta * (delta.abs() >= least)
