"""The decoupled linear layer and the two forms that a stream takes.

The layer computes, for the token at position p of modality m:

    y[p] = W x[p] + b              text, and every modality without a stream in this layer
    y[p] = W x[p] + b + B A x[p]   a factored stream: A [r, in], B [out, r] with its scale folded in
    y[p] = V x[p] + c              a dense stream: the modality's own matrix V [out, in] and bias c

W keeps the name it has in the plain model (`<path>.weight`); stream m lives under
`<path>.streams.<m>`. A dense stream holds the whole matrix, not its distance from W: the bytes are
the same, an expert's own weights survive without a rounding, and its tokens pay one product instead
of two. A stream named `text` (factored) is an adapter for all tokens that no other stream claims.

Only a stream's own tokens visit it. Without media a layer is `F.linear`, bit for bit the plain
backbone.

Paper: Chen et al., Model Composition for Multimodal Large Language Models (DAMC), ACL 2024.
"""

from collections.abc import Mapping
from math import sqrt
from typing import ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import nn

from omnicompose.errors import ModelInputError
from omnicompose.streams.routing import TEXT, Routing, RoutingSlot


class Stream(Protocol):
    """What a decoupled layer needs of a stream; a `torch.nn.Module` with hooks of its own."""

    replaces: ClassVar[bool]
    """Whether the result stands instead of the text weight's, or is added to it."""

    def reset_parameters(self) -> None:
        """Start as the text stream (factored) or as a fresh linear layer (dense)."""
        ...

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """Outputs `[n, out]` of this stream's own tokens `[n, in]`."""
        ...


class FactoredStream(nn.Module):
    """A low-rank addition B A to the text weight; `lora_A` [r, in], `lora_B` [out, r]."""

    replaces: ClassVar[bool] = False

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


class DecoupledLinear(nn.Linear):
    """A linear layer whose weight serves text and whose streams serve the other modalities."""

    def __init__(self, linear: nn.Linear, slot: RoutingSlot) -> None:
        """Take over `linear`'s parameters; streams are added by `decouple`."""
        super().__init__(linear.in_features, linear.out_features, bias=False, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.streams = nn.ModuleDict()
        self.slot = slot

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Outputs `[..., out]` of tokens `[..., in]`, each token by its own stream.

        Raises:
            ModelInputError: the layer sees other tokens than those that were routed.
        """
        routing = self.slot.routing
        if routing is None and TEXT not in self.streams:
            return F.linear(input, self.weight, self.bias)
        flat = input.reshape(-1, self.in_features)
        if routing is None:
            output = F.linear(flat, self.weight, self.bias)
            output = output + self.streams[TEXT](flat).to(output.dtype)
        else:
            output = self._routed(flat, routing)
        return output.view(*input.shape[:-1], self.out_features)

    def _routed(self, flat: torch.Tensor, routing: Routing) -> torch.Tensor:
        if flat.shape[0] != routing.num_tokens:
            raise ModelInputError(
                f"a decoupled linear layer: found {flat.shape[0]} tokens, expected the "
                f"{routing.num_tokens} that were routed. Decouple only layers that see every token."
            )
        routing = routing.on(flat.device)
        own = {name: routing.tokens[name] for name in self.streams if name in routing.tokens}
        own.pop(TEXT, None)
        if TEXT in self.streams:
            own[TEXT] = routing.outside(list(own))
        output = self._text_side(flat, routing, own)
        for name, index in own.items():
            stream = self.streams[name]
            result = stream(flat.index_select(0, index)).to(output.dtype)
            if stream.replaces:
                output.index_copy_(0, index, result)
            else:
                output.index_add_(0, index, result)
        return output

    def _text_side(
        self, flat: torch.Tensor, routing: Routing, own: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """W x + b for the tokens that no stream replaces; unset elsewhere."""
        replaced = [name for name in own if self.streams[name].replaces]
        if not replaced:
            return F.linear(flat, self.weight, self.bias)
        rest = routing.outside(replaced)
        result = F.linear(flat.index_select(0, rest), self.weight, self.bias)
        output = result.new_empty(flat.shape[0], self.out_features)
        return output.index_copy_(0, rest, result)
