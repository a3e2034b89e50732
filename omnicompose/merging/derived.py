"""Tensors of streams that are made of finished weights: masks, masked weights, thin factors.

With d = own - base (an expert's delta) and t = merged - base (the one that is shared):

    mask bits       m = 1[ |d| > threshold |t - d| ]  and, if signed,  1[ d t > 0 ], packed
    masked weight   base + m t, or what is given in its place
    mask scale      the number s of a given  base + s m t
    thin factors    B A, the nearest matrix of rank k to own - merged

At threshold 1 the mask minimises |d - m t| entry by entry; for a threshold of 1 or more the sign
rule changes nothing. At threshold 0 it keeps every entry of equal sign, which is EMR's mask.

Papers: MMER, arXiv 2505.17110, whose text could not be read here: the rule is what its abstract and
reviews determine, with the threshold as in TALL-masks, arXiv 2405.07813. EMR: arXiv 2405.17461.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal, NamedTuple, Protocol

import torch

from omnicompose.merging.methods.spectral import FP64_SIZE, Svd, head, svd

BITS = 8
"""Entries of a mask per byte; the first is the lowest bit."""
OVERSAMPLING = 16
POWER_ITERATIONS = 4


class Made(NamedTuple):
    """What a maker gives.

    Attributes:
        values: the output's elements, flat, fp32.
        measures: facts that add up over tiles.
    """

    values: torch.Tensor
    measures: Mapping[str, float]


class Maker(Protocol):
    """How an output is made of its operands: plain data that says what it does."""

    @property
    def whole(self) -> bool:
        """Whether it needs its operands whole."""
        ...

    @property
    def elements_each(self) -> int:
        """Operand elements per output element, where it works tile by tile."""
        ...

    def make(self, operands: Sequence[torch.Tensor]) -> Made:
        """The output's elements from those of the operands, all flat and fp32."""
        ...

    def describe(self) -> dict[str, object]:
        """Kind and settings, as JSON."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskRule:
    """Which entries of the shared delta an expert keeps.

    Attributes:
        threshold: how much larger the own delta must be than its distance to the shared one.
        signed: keep an entry only where both have one sign.
    """

    threshold: float
    signed: bool

    def keep(self, own: torch.Tensor, shared: torch.Tensor) -> torch.Tensor:
        """The mask, bool, of two deltas."""
        mask = own.abs() > self.threshold * (shared - own).abs()
        return mask & (own * shared > 0) if self.signed else mask


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskedWeight:
    """Operands base, own, merged, and if there is a scale the scaled result."""

    rule: MaskRule
    packed: bool = False
    whole = False

    @property
    def elements_each(self) -> int:
        """Eight entries share a byte of a packed mask."""
        return BITS if self.packed else 1

    def make(self, operands: Sequence[torch.Tensor]) -> Made:
        """The masked weight, or its mask; how many entries are kept, and the L1 error."""
        base, own, merged, *given = operands
        delta, shared = own - base, merged - base
        mask = self.rule.keep(delta, shared)
        result = given[0] if given else base + mask * shared
        measures = {
            "entries": float(mask.numel()),
            "kept": float(mask.sum()),
            "l1_own": float(delta.abs().sum(dtype=torch.float64)),
            "l1_error": float((own - result).abs().sum(dtype=torch.float64)),
        }
        return Made(_packed(mask) if self.packed else result, measures)

    def describe(self) -> dict[str, object]:
        """Rule and form."""
        kind = "mask bits" if self.packed else "masked weight"
        return {"kind": kind, "threshold": self.rule.threshold, "signed": self.rule.signed}


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskScale:
    """Operands base, merged and the scaled result; one number, 1 where there is no third."""

    whole = True
    elements_each = 1

    def make(self, operands: Sequence[torch.Tensor]) -> Made:
        """By how much the kept entries of the shared delta were multiplied."""
        if len(operands) < 3:
            return Made(torch.ones(1, device=operands[0].device), {})
        base, merged, scaled = operands
        result = scaled - base
        kept = ((merged - base) * (result != 0)).abs().sum(dtype=torch.float64)
        scale = result.abs().sum(dtype=torch.float64) / kept if kept > 0 else kept.new_ones(())
        return Made(scale.float().reshape(1), {})

    def describe(self) -> dict[str, object]:
        """Kind."""
        return {"kind": "mask scale"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ThinFactor:
    """Operands own and merged: one factor of the nearest matrix of rank k to their difference.

    Attributes:
        shape: of the operands, `(out, in)`.
        rank: k.
        side: `A` `[k, in]` or `B` `[out, k]`; both carry the square roots of the singular values.
    """

    shape: tuple[int, int]
    rank: int
    side: Literal["A", "B"]
    whole = True
    elements_each = 1

    def make(self, operands: Sequence[torch.Tensor]) -> Made:
        """The factor; with B the squared norms of the difference and of what is lost."""
        own, merged = operands
        difference = (own - merged).view(self.shape)
        parts = _fixed_signs(nearest(difference, self.rank))
        roots = parts.s.clamp(min=0).sqrt()
        factors = {"A": (parts.v * roots).T, "B": parts.u * roots}
        missing = self.rank - len(parts.s)
        padding = (0, 0, 0, missing) if self.side == "A" else (0, missing)
        factor = torch.nn.functional.pad(factors[self.side].float(), padding)
        measures = {}
        if self.side == "B":
            lost = difference - (factors["B"] @ factors["A"]).float()
            measures = {
                "squared_norm": float(difference.square().sum(dtype=torch.float64)),
                "squared_error": float(lost.square().sum(dtype=torch.float64)),
            }
        return Made(factor.reshape(-1), measures)

    def describe(self) -> dict[str, object]:
        """Rank and side."""
        return {"kind": f"thin factor {self.side}", "rank": self.rank}


def nearest(matrix: torch.Tensor, rank: int) -> Svd:
    """The `rank` largest singular triplets of a matrix `[out, in]`.

    In fp64 and exact up to a smaller side of `FP64_SIZE`. Larger ones by a random subspace that
    powers of the matrix turn towards the largest directions: same numbers on every call.
    """
    if min(matrix.shape) <= FP64_SIZE:
        return head(svd(matrix.double()), rank)
    width = min(rank + OVERSAMPLING, min(matrix.shape))
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(matrix.shape[1], width, generator=generator).to(matrix.device)
    basis = torch.linalg.qr(matrix @ start).Q
    for _ in range(POWER_ITERATIONS):
        basis = torch.linalg.qr(matrix @ torch.linalg.qr(matrix.T @ basis).Q).Q
    small = svd(basis.T @ matrix)
    return head(Svd(basis @ small.u, small.s, small.v), rank)


def _fixed_signs(parts: Svd) -> Svd:
    """Of the two signs of every triplet the one by which the largest entry of v is positive."""
    largest = parts.v.gather(0, parts.v.abs().argmax(dim=0, keepdim=True))
    signs = torch.where(largest < 0, -1.0, 1.0)
    return Svd(parts.u * signs, parts.s, parts.v * signs)


def _packed(mask: torch.Tensor) -> torch.Tensor:
    """A flat mask as bytes 0 .. 255 in fp32; entries beyond the last are zero."""
    padded = torch.nn.functional.pad(mask.float(), (0, -mask.numel() % BITS)).view(-1, BITS)
    return padded @ (2.0 ** torch.arange(BITS, device=mask.device))


def num_bytes_packed(shape: tuple[int, ...]) -> int:
    """Bytes of a packed mask of this shape."""
    return -(-prod(shape) // BITS)
