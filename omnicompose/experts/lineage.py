"""Do two backbones descend from one base? Compared by sampled tensors."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from omnicompose.tensors.source import TensorSource, read_tensor

SAMPLE_SIZE = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """How far a backbone's sampled tensors lie from the base's.

    Attributes:
        num_tensors: how many tensors of equal name and shape were sampled.
        num_identical: how many of those samples agree in every bit.
        relative_delta: norm of all sampled differences over the norm of the base's samples.
        cosine: between the two concatenated samples.
    """

    num_tensors: int
    num_identical: int
    relative_delta: float
    cosine: float

    @property
    def identical(self) -> bool:
        """True when every sample agrees: the backbone is the base itself."""
        return self.num_tensors == self.num_identical


def compare_weights(base: TensorSource, other: TensorSource, names: Sequence[str]) -> Lineage:
    """Compare a thousand elements from the middle of every named tensor; reads little."""
    squares = {"delta": 0.0, "base": 0.0, "other": 0.0, "product": 0.0}
    identical = 0
    for name in names:
        ours, theirs = _sample(base, name), _sample(other, name)
        identical += int(torch.equal(ours, theirs))
        squares["delta"] += float((theirs - ours).square().sum())
        squares["base"] += float(ours.square().sum())
        squares["other"] += float(theirs.square().sum())
        squares["product"] += float((ours * theirs).sum())
    return Lineage(
        num_tensors=len(names),
        num_identical=identical,
        relative_delta=math.sqrt(squares["delta"] / squares["base"]) if squares["base"] else 0.0,
        cosine=_cosine(squares),
    )


def delta_cosine(
    base: TensorSource, first: TensorSource, second: TensorSource, names: Sequence[str]
) -> float:
    """Cosine between two backbones' sampled differences to the base; 0 where one has none.

    Independent fine-tunes of one base move in unrelated directions. What two of them have in common
    beyond that is the way from the base to a model that both started from.
    """
    squares = {"base": 0.0, "other": 0.0, "product": 0.0}
    for name in names:
        origin = _sample(base, name)
        ours, theirs = _sample(first, name) - origin, _sample(second, name) - origin
        squares["base"] += float(ours.square().sum())
        squares["other"] += float(theirs.square().sum())
        squares["product"] += float((ours * theirs).sum())
    norm = math.sqrt(squares["base"] * squares["other"])
    return squares["product"] / norm if norm else 0.0


def _cosine(squares: Mapping[str, float]) -> float:
    norm = math.sqrt(squares["base"] * squares["other"])
    return squares["product"] / norm if norm else 1.0


def _sample(source: TensorSource, name: str) -> torch.Tensor:
    size = source.infos()[name].num_elements
    start = max(0, (size - SAMPLE_SIZE) // 2)
    return read_tensor(source, name, start, min(size, start + SAMPLE_SIZE)).to(torch.float64)
