"""Merge one whole tensor in memory: all passes of a method, without the engine."""

from dataclasses import replace
from typing import cast

import torch

from omnicompose.merging.method import MergeContext, Method, ObservingMethod, TensorGroup


def merge_whole(method: Method, group: TensorGroup, context: MergeContext) -> torch.Tensor:
    """What the method makes of a tensor that is at hand as a whole.

    A statistic that should span the model then spans this one tensor.

    Args:
        method: any method.
        group: a whole tensor of every expert, fp32.
        context: parameters and seed; statistics are observed here.

    Returns:
        The merged tensor, fp32, of the experts' shape.
    """
    return method.merge(group, observed(method, group, context))


def observed(method: Method, group: TensorGroup, context: MergeContext) -> MergeContext:
    """The context with the statistics of one whole tensor filled in."""
    if method.spec.num_passes == 1:
        return context
    observing = cast(ObservingMethod, method)
    for observe_pass in range(observing.survey(context.parameters).num_passes):
        found = observing.observe(group, context, observe_pass)
        context = replace(context, statistics={**context.statistics, **found})
    return context
