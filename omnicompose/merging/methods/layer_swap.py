"""Layer swapping: outer blocks from the first expert, inner blocks from the second.

    block l of L comes from the first expert if l < bottom or l >= L - top, from the second
    otherwise; the `bottom_transition` blocks above the bottom and the `top_transition` blocks below
    the top are the experts' average by weight. Whole tensors are copied bit for bit.

Paper: "Layer Swapping for Zero-Shot Cross-Lingual Transfer", arXiv 2410.01335 (first expert: the
language expert; second: the task expert; 5 bottom, 2 top and 1 + 1 transition blocks of 32). Read
in the paper, no code was available. The paper does not say where embeddings and head come from;
here it must be a choice: `embeddings` and `head` (the latter also for the final norm).
"""

import torch

from omnicompose.merging.method import (
    MergeContext,
    MethodSpec,
    Parameter,
    TensorGroup,
)
from omnicompose.merging.methods.deltas import combine, normalised, number, word

SOURCES = ("first", "second", "mean")


def _count(name: str, default: int, description: str) -> Parameter:
    return Parameter(name=name, default=default, description=description, minimum=0)


SPEC = MethodSpec(
    name="layer_swap",
    summary="Bottom and top blocks of one expert around the middle blocks of another.",
    formula="W = W_1 in the outer blocks, W_2 in the inner ones, their average in between",
    paper="2410.01335",
    needs_base=False,
    arity=(2, 2),
    granularity="element",
    parameters=(
        _count("bottom", 5, "blocks at the bottom from the first expert"),
        _count("top", 2, "blocks at the top from the first expert"),
        _count("bottom_transition", 1, "averaged blocks above the bottom"),
        _count("top_transition", 1, "averaged blocks below the top"),
        Parameter(
            name="embeddings",
            default="first",
            description="where the embeddings come from",
            choices=SOURCES,
        ),
        Parameter(
            name="head",
            default="first",
            description="where the head and the final norm come from",
            choices=SOURCES,
        ),
    ),
)


class LayerSwap:
    """Blocks of two experts, stacked."""

    spec = SPEC

    def merge(self, group: TensorGroup, context: MergeContext) -> torch.Tensor:
        """One expert's tensor, or the average of both, fp32."""
        source = source_of(group, context)
        if source == "mean":
            return combine(group.experts, normalised(group.weights, group.name))
        return group.experts[SOURCES.index(source)].clone()


def source_of(group: TensorGroup, context: MergeContext) -> str:
    """Which expert a tensor comes from: `first`, `second` or `mean`."""
    if group.layer is None:
        embeds = group.role == "embedding"
        return word(context.parameters, "embeddings" if embeds else "head")
    from_bottom, from_top = group.layer, group.num_layers - 1 - group.layer
    bottom, top = (number(context.parameters, name) for name in ("bottom", "top"))
    if from_bottom < bottom or from_top < top:
        return "first"
    between = (
        number(context.parameters, "bottom_transition"),
        number(context.parameters, "top_transition"),
    )
    averaged = from_bottom < bottom + between[0] or from_top < top + between[1]
    return "mean" if averaged else "second"
