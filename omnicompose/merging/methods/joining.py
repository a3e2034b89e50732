"""The last step of methods that thin out deltas: what is kept is put to the vote, or added up."""

from collections.abc import Sequence
from typing import cast

import torch

from omnicompose.merging.method import MergeContext, TensorGroup
from omnicompose.merging.methods.consensus import Agreement, elect, merge_agreeing
from omnicompose.merging.methods.deltas import (
    add_to_base,
    combine,
    flag,
    normalised,
    number,
    word,
)


def join(group: TensorGroup, context: MergeContext, kept: Sequence[torch.Tensor]) -> torch.Tensor:
    """Base plus the joined deltas, fp32.

    Signs are elected where the method has a parameter `combine`; else the deltas are added up,
    with weights that add up to 1 if it has `normalize` and that is set.

    Args:
        group: whose base and weights are used.
        context: of the method.
        kept: what is left of every expert's delta.

    Raises:
        MergeError: weights that add up to nothing were to be normalised.
    """
    weights, scale = group.weights, number(context.parameters, "scale")
    if "combine" in context.parameters:
        how = cast(Agreement, word(context.parameters, "combine"))
        return add_to_base(group, merge_agreeing(kept, weights, elect(kept, weights), how), scale)
    if "normalize" in context.parameters and flag(context.parameters, "normalize"):
        return add_to_base(group, combine(kept, normalised(weights, group.name)), scale)
    return add_to_base(group, combine(kept, weights), scale)
