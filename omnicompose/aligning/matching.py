"""Weight matching: permute hidden units of a model so that it lies nearest to another.

Every axis of every tensor belongs to a set of units that may be permuted together:

    stream    the residual stream: embeddings, norms, what enters and leaves every block, the head
    inner l   the feed-forward units of block l: rows of gate and up, columns of down
    heads l   of block l: whole groups of one key-value head, then query heads inside each group

Units inside a head stay: rotary positions pair them. Permuting all sets at once leaves the function
as it is. Repeated over the sets in random order: with all others fixed, the permutation that
maximises sum over axes of <A, B permuted>, a linear assignment; until none gains.

Paper: "Git Re-Basin", arXiv 2209.04836; samuela/git-re-basin weight_matching as specs/methods.md
A.22 records it. The sets for grouped queries and rotary positions are ours, held to equal logits.
Fine-tunes of one base are aligned already: the identity comes out.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment

from omnicompose.aligning.tensors import Shape, Tensors

GAIN = 1e-12
"""Share of the objective by which a permutation must gain to be taken."""
MAX_SWEEPS = 100
STREAM = "stream"
Permutations = dict[str, torch.Tensor]
"""Set of units to the order of the second model's units, `[n]`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One axis of a tensor.

    Attributes:
        units: the set it belongs to.
        number: of the axis.
        width: neighbouring entries that are one unit.
    """

    units: str
    number: int
    width: int = 1


def axes_of(names: Mapping[str, torch.Tensor], shape: Shape) -> dict[str, tuple[Axis, ...]]:
    """The axes that may be permuted, by tensor. Heads are sets of `kv_heads` groups."""
    found: dict[str, tuple[Axis, ...]] = {}
    for name, tensor in names.items():
        layer = name.split(".")[2] if name.startswith("model.layers.") else ""
        found[name] = _axes(name, layer, tensor.dim(), shape)
    return found


def _axes(name: str, layer: str, dimensions: int, shape: Shape) -> tuple[Axis, ...]:
    inner, heads = f"inner {layer}", f"heads {layer}"
    query = shape.group * shape.head_width
    is_bias = name.endswith(".bias")
    into = () if is_bias else (Axis(units=STREAM, number=1),)
    part = name.removesuffix(".weight").removesuffix(".bias").rsplit(".", 1)[-1]
    match part:
        case "q_proj":
            return (Axis(units=heads, number=0, width=query), *into)
        case "k_proj" | "v_proj":
            return (Axis(units=heads, number=0, width=shape.head_width), *into)
        case "gate_proj" | "up_proj":
            return (Axis(units=inner, number=0), *into)
        case "o_proj" if not is_bias:
            return (Axis(units=STREAM, number=0), Axis(units=heads, number=1, width=query))
        case "down_proj" if not is_bias:
            return (Axis(units=STREAM, number=0), Axis(units=inner, number=1))
        case "embed_tokens" | "lm_head":
            return into
        case "q_norm" | "k_norm":
            return ()
        case _ if dimensions == 1:
            return (Axis(units=STREAM, number=0),)
    return ()


def permuted(tensor: torch.Tensor, axis: Axis, order: torch.Tensor) -> torch.Tensor:
    """A tensor with the units of one axis in another order."""
    index = (order[:, None] * axis.width + torch.arange(axis.width)).flatten()
    return tensor.index_select(axis.number, index)


def apply(tensors: Tensors, axes: Mapping[str, tuple[Axis, ...]], orders: Permutations) -> Tensors:
    """All tensors with their units permuted."""
    found = {}
    for name, tensor in tensors.items():
        for axis in axes[name]:
            tensor = permuted(tensor, axis, orders[axis.units])
        found[name] = tensor
    return found


def match(
    first: Tensors,
    second: Tensors,
    shape: Shape,
    seed: int = 0,
    say: Callable[[str], None] = lambda _line: None,
) -> Tensors:
    """The second model permuted to lie nearest to the first.

    Args:
        first: stays.
        second: of the same shapes.
        shape: of both.
        seed: of the order in which sets are visited.
        say: takes one line of progress per sweep.

    Returns:
        The second model's tensors; its function is unchanged.
    """
    axes = axes_of(first, shape)
    orders = _matched(first, second, axes, seed, say)
    aligned = apply(second, axes, orders)
    for layer in range(shape.layers):
        _match_queries(first, aligned, f"model.layers.{layer}.self_attn", shape)
    return aligned


def _matched(
    first: Tensors,
    second: Tensors,
    axes: Mapping[str, tuple[Axis, ...]],
    seed: int,
    say: Callable[[str], None],
) -> Permutations:
    sizes = {
        axis.units: first[name].shape[axis.number] // axis.width
        for name, own in axes.items()
        for axis in own
    }
    orders = {units: torch.arange(size) for units, size in sizes.items()}
    names, generator = sorted(orders), torch.Generator().manual_seed(seed)
    for sweep in range(MAX_SWEEPS):
        gained = False
        for place in torch.randperm(len(names), generator=generator).tolist():
            units = names[place]
            scores = similarity(first, second, axes, orders, units)
            order, gain = assigned(scores, orders[units])
            if gain:
                orders[units], gained = order, True
        say(f"sweep {sweep + 1}")
        if not gained:
            break
    return orders


def similarity(
    first: Tensors,
    second: Tensors,
    axes: Mapping[str, tuple[Axis, ...]],
    orders: Permutations,
    units: str,
) -> torch.Tensor:
    """`[n, n]`: inner products of the first model's units with the second's, others permuted."""
    total = torch.zeros(len(orders[units]), len(orders[units]), dtype=torch.float64)
    for name, own in axes.items():
        mine = next((axis for axis in own if axis.units == units), None)
        if mine is None:
            continue
        other = second[name]
        for axis in own:
            if axis.units != units:
                other = permuted(other, axis, orders[axis.units])
        rows = [t.movedim(mine.number, 0).reshape(len(total), -1) for t in (first[name], other)]
        total += (rows[0] @ rows[1].T).double()
    return total


def assigned(scores: torch.Tensor, order: torch.Tensor) -> tuple[torch.Tensor, bool]:
    """The best order for these scores, and whether it is better than the one there is."""
    _, columns = linear_sum_assignment(scores.numpy(), maximize=True)
    best = torch.from_numpy(columns)
    places = torch.arange(len(order))
    gain = float(scores[places, best].sum() - scores[places, order].sum())
    return best, gain > GAIN * max(float(scores.abs().sum()), 1e-300)


def _match_queries(first: Tensors, second: Tensors, prefix: str, shape: Shape) -> None:
    """Query heads inside each group, whose key head is already in its place; changes `second`."""
    orders = []
    for group in range(shape.kv_heads):
        scores = torch.zeros(shape.group, shape.group, dtype=torch.float64)
        for name, axis in ((f"{prefix}.q_proj.weight", 0), (f"{prefix}.o_proj.weight", 1)):
            rows = [_heads(one[name], axis, shape, group) for one in (first, second)]
            scores += (rows[0] @ rows[1].T).double()
        order, _ = assigned(scores, torch.arange(shape.group))
        orders.append(order + group * shape.group)
    every = torch.cat(orders)
    for name, number in (("q_proj.weight", 0), ("q_proj.bias", 0), ("o_proj.weight", 1)):
        own = f"{prefix}.{name}"
        if own in second:
            queries = Axis(units="queries", number=number, width=shape.head_width)
            second[own] = permuted(second[own], queries, every)


def _heads(tensor: torch.Tensor, axis: int, shape: Shape, group: int) -> torch.Tensor:
    """`[heads of a group, entries]`."""
    rows = tensor.movedim(axis, 0).reshape(shape.heads, -1)
    return rows[group * shape.group : (group + 1) * shape.group]
