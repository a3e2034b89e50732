"""The passes that a merge's method observes, one after the other, as few as will do."""

from collections.abc import Callable

from omnicompose.merging.job import Merge, survey_of
from omnicompose.merging.method import MergeContext, SettlingMethod
from omnicompose.merging.statistics import Statistics

SAMPLE_TILES = 16
SAMPLE_TILE_ELEMENTS = 1 << 14
"""A sample is so many tiles of so many elements, evenly spread over a tensor."""


def observe_passes(merge: Merge, observe: Callable[[Statistics, int], Statistics]) -> Statistics:
    """What a merge's method knows after all the passes that it needs.

    Args:
        merge: the merge, or one of many that share their statistics.
        observe: gives the sums of one pass, from the statistics so far and the pass's number.
    """
    found: Statistics = {}
    if not merge.output.num_elements:
        return found
    for observe_pass in range(survey_of(merge).num_passes):
        if _needs(merge, found, observe_pass):
            found = {**found, **observe(found, observe_pass)}
            found = _settled(merge, found, observe_pass)
    return found


def tiles_of_pass(merge: Merge, observe_pass: int, step: int) -> list[tuple[int, int]]:
    """First element and size of every tile that a pass looks at, in order."""
    size = merge.output.num_elements
    if observe_pass < survey_of(merge).num_sampled and size > SAMPLE_TILES * SAMPLE_TILE_ELEMENTS:
        spread = size // SAMPLE_TILES
        count = min(step, SAMPLE_TILE_ELEMENTS)
        return [(number * spread, count) for number in range(SAMPLE_TILES)]
    return [(start, min(step, size - start)) for start in range(0, size, max(step, 1))]


def context_of(merge: Merge, statistics: Statistics) -> MergeContext:
    """What a merge's method is told besides its tensors."""
    return MergeContext(parameters=merge.parameters, seed=merge.seed, statistics=statistics)


def _needs(merge: Merge, found: Statistics, observe_pass: int) -> bool:
    method = merge.method
    if not isinstance(method, SettlingMethod):
        return True
    return method.needs(merge.expert_names, context_of(merge, found), observe_pass)


def _settled(merge: Merge, found: Statistics, observe_pass: int) -> Statistics:
    method = merge.method
    if not isinstance(method, SettlingMethod):
        return found
    return method.settle(merge.expert_names, context_of(merge, found), observe_pass)
