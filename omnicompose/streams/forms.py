"""The forms that a stream of a linear layer takes.

For the token x of a modality m:

    factored   W x + b + B A x               A [r, in], B [out, r] with its scale folded in
    dense      V x + c                       the modality's own matrix V [out, in] and bias c
    masked     (W_0 + s M (W - W_0)) x + b   a one-bit mask M of W's shape and a number s

W and b are the layer's own, which text uses, and W_0 the base's weight, which all masked streams
of a layer share. A dense stream holds the whole matrix, not its distance from W: the bytes are the
same, an expert's own weights survive without a rounding, and its tokens pay one product instead of
two. A masked stream is unpacked when its tokens come: one pass over the weight per forward.
"""

from math import prod, sqrt
from typing import ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import nn

BITS = 8
"""Entries of a mask per byte; the first is the lowest bit."""


class Stream(Protocol):
    """What a decoupled layer needs of a stream; a `torch.nn.Module` with hooks of its own."""

    replaces: ClassVar[bool]
    """Whether the result stands instead of the text weight's, or is added to it."""
    reads_text: ClassVar[bool]
    """Whether it is called with the layer's `weight`, `base_weight` and `bias` besides. These are
    tensors, not the layer: hooks of accelerate move whatever they find among the arguments."""

    def reset_parameters(self) -> None:
        """Start as the text stream (factored), a fresh layer (dense) or the base (masked)."""
        ...

    def __call__(self, inputs: torch.Tensor, *text: torch.Tensor | None) -> torch.Tensor:
        """Outputs `[n, out]` of this stream's own tokens `[n, in]`."""
        ...


class FactoredStream(nn.Module):
    """A low-rank addition B A to the text weight; `lora_A` [r, in], `lora_B` [out, r]."""

    replaces: ClassVar[bool] = False
    reads_text: ClassVar[bool] = False

    def __init__(self, linear: nn.Linear, rank: int) -> None:
        """Allocate factors like `linear`'s weight in dtype and device."""
        super().__init__()
        weight = linear.weight
        self.lora_A = nn.Parameter(weight.new_empty(rank, linear.in_features))
        self.lora_B = nn.Parameter(weight.new_empty(linear.out_features, rank))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start as nothing: A random, B zero."""
        nn.init.kaiming_uniform_(self.lora_A, a=sqrt(5))
        nn.init.zeros_(self.lora_B)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """B A x for tokens `[n, in]`, in the factors' dtype (an adapter may train in fp32)."""
        return F.linear(F.linear(inputs.to(self.lora_A.dtype), self.lora_A), self.lora_B)


class DenseStream(nn.Module):
    """A matrix, and bias if the layer has one, of the modality's own."""

    replaces: ClassVar[bool] = True
    reads_text: ClassVar[bool] = False

    def __init__(self, linear: nn.Linear) -> None:
        """Allocate a matrix like `linear`'s."""
        super().__init__()
        self.weight = nn.Parameter(torch.empty_like(linear.weight))
        self.bias = None if linear.bias is None else nn.Parameter(torch.empty_like(linear.bias))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start like a fresh `nn.Linear` without offset."""
        nn.init.kaiming_uniform_(self.weight, a=sqrt(5))
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """V x + c for tokens `[n, in]`."""
        return F.linear(inputs, self.weight, self.bias)


class MaskedStream(nn.Module):
    """The merged delta through a mask; `mask` [ceil(out * in / 8)] uint8, `mask_scale` []."""

    replaces: ClassVar[bool] = True
    reads_text: ClassVar[bool] = True
    mask: torch.Tensor
    mask_scale: torch.Tensor

    def __init__(self, linear: nn.Linear) -> None:
        """Allocate a mask for `linear`'s weight."""
        super().__init__()
        weight = linear.weight
        mask = torch.empty(mask_bytes(weight.shape), dtype=torch.uint8, device=weight.device)
        self.register_buffer("mask", mask)
        self.register_buffer("mask_scale", weight.new_empty((), dtype=torch.float32))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start as the base: nothing passes the mask."""
        nn.init.zeros_(self.mask)
        nn.init.ones_(self.mask_scale)

    def weight_from(self, text: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
        """The modality's own matrix `[out, in]` from the text's and the base's, in their dtype."""
        share = unpack_mask(self.mask, text.shape).float() * self.mask_scale.float()
        # lerp gives its ends exactly, so that at scale 1 the mask picks text or base bit for bit.
        return torch.lerp(base.float(), text.float(), share).to(text.dtype)

    def forward(
        self,
        inputs: torch.Tensor,
        text: torch.Tensor,
        base: torch.Tensor,
        bias: torch.Tensor | None,
    ) -> torch.Tensor:
        """V x + b for tokens `[n, in]`, V unpacked on the way."""
        return F.linear(inputs, self.weight_from(text, base), bias)


def mask_bytes(shape: tuple[int, ...]) -> int:
    """Bytes of a packed mask for a weight of this shape."""
    return -(-prod(shape) // BITS)


def pack_mask(mask: torch.Tensor) -> torch.Tensor:
    """A bool tensor of n entries as uint8 `[ceil(n / 8)]`, lowest bit first."""
    flat = F.pad(mask.reshape(-1).to(torch.uint8), (0, -mask.numel() % BITS))
    places = torch.arange(BITS, dtype=torch.uint8, device=mask.device)
    return (flat.view(-1, BITS) << places).sum(dim=1, dtype=torch.uint8)


def unpack_mask(packed: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """The bool tensor of `shape` that was packed."""
    places = torch.arange(BITS, dtype=torch.uint8, device=packed.device)
    bits = (packed[:, None] >> places) & 1
    return bits.view(-1)[: prod(shape)].view(shape).bool()
