"""The decoupled linear layer: one weight for text, and a stream for each other modality.

The layer computes, for the token at position p of modality m:

    y[p] = W x[p] + b          text, and every modality without a stream in this layer
    y[p] = stream_m(x[p])      see `forms`: a low-rank addition, a matrix of its own, or a mask

W keeps the name it has in the plain model (`<path>.weight`); stream m lives under
`<path>.streams.<m>`. A stream named `text` (factored) is an adapter for all tokens that no other
stream claims. Only a stream's own tokens visit it. Without media a layer is `F.linear`, bit for bit
the plain backbone.

Paper: Chen et al., Model Composition for Multimodal Large Language Models (DAMC), ACL 2024.
"""

import torch
import torch.nn.functional as F
from torch import nn

from omnicompose.errors import ModelInputError
from omnicompose.streams.routing import TEXT, Routing, RoutingSlot


class DecoupledLinear(nn.Linear):
    """A linear layer whose weight serves text and whose streams serve the other modalities."""

    base_weight: nn.Parameter | None

    def __init__(self, linear: nn.Linear, slot: RoutingSlot) -> None:
        """Take over `linear`'s parameters; streams are added by `decouple`."""
        super().__init__(linear.in_features, linear.out_features, bias=False, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.register_parameter("base_weight", None)
        self.streams = nn.ModuleDict()
        self.slot = slot

    def keep_base(self) -> None:
        """Make room for the base's weight `[out, in]`, which masked streams start from."""
        if self.base_weight is None:
            empty = torch.empty_like(self.weight, requires_grad=False)
            self.base_weight = nn.Parameter(empty, requires_grad=False)

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
        shaped: torch.Tensor = output.view(*input.shape[:-1], self.out_features)
        return shaped

    # Which tokens go where differs from prompt to prompt: tracing it would compile every prefill
    # anew. Steps without media never come here and are compiled whole.
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _routed(self, flat: torch.Tensor, routing: Routing) -> torch.Tensor:
        check_tokens(flat.shape[0], routing)
        routing = routing.on(flat.device)
        layer = tuple(self.streams)
        output = self._text_side(flat, routing, layer)
        for name, rows in routing.visits(layer).items():
            stream = self.streams[name]
            text = (self.weight, self.base_weight, self.bias) if stream.reads_text else ()
            result = stream(rows.take(flat), *text).to(output.dtype)
            (rows.put if stream.replaces else rows.add)(output, result)
        return output

    def _text_side(
        self, flat: torch.Tensor, routing: Routing, layer: tuple[str, ...]
    ) -> torch.Tensor:
        """W x + b for the tokens that no stream replaces; unset elsewhere."""
        replaced = tuple(n for n in routing.visits(layer) if self.streams[n].replaces)
        if not replaced:
            return F.linear(flat, self.weight, self.bias)
        rest = routing.outside(layer, replaced)
        result = F.linear(flat.index_select(0, rest), self.weight, self.bias)
        output = result.new_empty(flat.shape[0], self.out_features)
        return output.index_copy_(0, rest, result)


def check_tokens(found: int, routing: Routing) -> None:
    """Refuse a layer that sees other tokens than those that were routed.

    Raises:
        ModelInputError: their numbers differ.
    """
    if found != routing.num_tokens:
        raise ModelInputError(
            f"a decoupled layer: found {found} tokens, expected the {routing.num_tokens} that "
            "were routed. Decouple only layers that see every token."
        )
