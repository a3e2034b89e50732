"""Frozen encoders, asked once: a model that is given features runs without its encoder.

The module keeps its parameters and its place; only its `forward` is another one meanwhile.
"""

from typing import cast

import torch
from torch import nn
from transformers import LlavaForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutputWithPooling

from omnicompose.modalities import MODALITIES
from omnicompose.modeling import OmniComposeForConditionalGeneration
from omnicompose.modeling.native import NativeEncoder
from omnicompose.training.subject import Frontend


class EncoderFrontend:
    """An encoder of a composite."""

    def __init__(self, encoder: nn.Module) -> None:
        """Look after `encoder`."""
        self._encoder = encoder

    @torch.no_grad()
    def features(self, media: torch.Tensor) -> torch.Tensor:
        """Features `[N, M, E]` of preprocessed media `[N, ...]`."""
        weight = next(p for p in self._encoder.parameters() if p.is_floating_point())
        return cast(torch.Tensor, _own_forward(self._encoder, media.to(weight)))

    def stand_in(self) -> None:
        """From now on the encoder gives back what it is given."""
        self._encoder.forward = nn.Identity().forward

    def put_back(self) -> None:
        """Undo `stand_in`."""
        self._encoder.__dict__.pop("forward", None)


class LlavaFrontend:
    """LLaVA's vision tower; its features are the hidden states that the projector reads."""

    def __init__(self, model: LlavaForConditionalGeneration, layer: int) -> None:
        """Look after the tower of `model`, of which `layer` is read."""
        self._tower = model.model.vision_tower
        self._layer = layer

    @torch.no_grad()
    def features(self, media: torch.Tensor) -> torch.Tensor:
        """Hidden states `[N, M, E]` of pictures `[N, 3, H, W]`, class token and all."""
        weight = next(self._tower.parameters())
        outputs = _own_forward(self._tower, media.to(weight), output_hidden_states=True)
        states = cast(BaseModelOutputWithPooling, outputs).hidden_states
        return cast(torch.Tensor, states[self._layer])

    def stand_in(self) -> None:
        """From now on the tower takes those hidden states for pictures."""

        def forward(pixel_values: torch.Tensor, **_: object) -> BaseModelOutputWithPooling:
            return BaseModelOutputWithPooling(hidden_states={self._layer: pixel_values})

        self._tower.forward = forward

    def put_back(self) -> None:
        """Undo `stand_in`."""
        self._tower.__dict__.pop("forward", None)


def _own_forward(module: nn.Module, media: torch.Tensor, **options: bool) -> object:
    """What a module's class computes, in use rather than in training, left out or not."""
    return type(module).forward(module.eval(), media, **options)


def frontends_of(model: nn.Module) -> dict[str, Frontend]:
    """The encoders that can be left out, by the model input that they take."""
    if isinstance(model, OmniComposeForConditionalGeneration):
        encoders = {name: getattr(model.model, f"{name}_encoder", None) for name in MODALITIES}
        return {
            MODALITIES[name].input_name: EncoderFrontend(encoder)
            for name, encoder in encoders.items()
            if encoder is not None and not isinstance(encoder, NativeEncoder)
        }
    if isinstance(model, LlavaForConditionalGeneration):
        layer = model.config.vision_feature_layer
        return {"pixel_values": LlavaFrontend(model, layer)} if isinstance(layer, int) else {}
    return {}
