"""What transformers needs to know about every composite, with or without a head."""

from collections.abc import Callable
from typing import cast

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init

from omnicompose.modeling.configuration_omnicompose import OmniComposeConfig
from omnicompose.streams import (
    DenseStream,
    FactoredStream,
    MaskedStream,
    refuse_merging,
    remember_routing,
)


class OmniComposePreTrainedModel(PreTrainedModel):  # type: ignore[misc]  # transformers is untyped
    """What transformers needs to know about every composite."""

    config_class = OmniComposeConfig
    base_model_prefix = "model"
    input_modalities = ("image", "video", "audio", "text")
    supports_gradient_checkpointing = True
    _skip_keys_device_placement = ("past_key_values",)
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    _keep_in_fp32_modules_strict = ("mask_scale",)

    def __setattr__(self, name: str, value: object) -> None:
        """Look at what peft sets when its layers are in place."""
        super().__setattr__(name, value)
        if name == "peft_config":
            refuse_merging(self)

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, FactoredStream | DenseStream | MaskedStream):
            module.reset_parameters()
        elif hasattr(module, "edge_embeddings"):
            for edge in cast(Callable[[], list[nn.Parameter]], module.edge_embeddings)():
                init.zeros_(edge)
        else:
            super()._init_weights(module)

    def _set_gradient_checkpointing(
        self,
        enable: bool = True,
        gradient_checkpointing_func: Callable[..., object] = torch.utils.checkpoint.checkpoint,
        every_n_layers: int = 1,
    ) -> None:
        slot = self.base_model.stream_slot
        checkpoint = remember_routing(gradient_checkpointing_func, slot)
        super()._set_gradient_checkpointing(enable, checkpoint, every_n_layers)

    def get_encoder(self, modality: str | None = None) -> nn.Module:
        """The encoder of a modality; the model itself where there is none."""
        found = getattr(self.base_model, f"{modality}_encoder", self)
        return cast(nn.Module, found)
