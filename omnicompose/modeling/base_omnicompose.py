"""The composite without its head: encoders, connectors and one language model with its streams."""

from collections.abc import Callable, Mapping
from typing import cast

import torch
from torch import nn
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutputWithPast
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, can_return_tuple

from omnicompose.connectors import make_connector
from omnicompose.encoders import make_encoder
from omnicompose.errors import ModelInputError
from omnicompose.modalities import MODALITIES
from omnicompose.modeling.configuration_omnicompose import OmniComposeConfig
from omnicompose.modeling.router import (
    Media,
    encode_by_shape,
    media_by_modality,
    placeholder_types,
    put_in_place,
)
from omnicompose.streams import (
    DenseStream,
    FactoredStream,
    Routing,
    StreamSpec,
    decouple,
    make_routing,
    remember_routing,
)

MEDIA_INPUTS = tuple(modality.input_name for modality in MODALITIES.values())


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

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, FactoredStream | DenseStream):
            module.reset_parameters()
        elif isinstance(module, OmniComposeModel):
            for edge in module.edge_embeddings():
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


class OmniComposeModel(OmniComposePreTrainedModel):
    """Encoders, connectors and the language model without its head."""

    def __init__(self, config: OmniComposeConfig) -> None:
        """Build every part with fresh weights."""
        super().__init__(config)
        text_config = cast(PreTrainedConfig, config.text_config)
        modalities = config.modalities or {}
        self.language_model = AutoModel.from_config(text_config)
        streams = {
            name: StreamSpec.from_config(entry["stream"])
            for name, entry in modalities.items()
            if entry["stream"] is not None
        }
        self.has_streams = bool(streams)
        self.stream_slot = decouple(self.language_model, streams)
        for name, entry in modalities.items():
            # Direct attributes: transformers looks for unsplittable modules among these only.
            setattr(self, f"{name}_encoder", make_encoder(entry["encoder"]))
            setattr(self, f"{name}_connector", make_connector(entry["connector"]))
            for end in ("prefix", "suffix"):
                if count := entry[f"num_{end}_tokens"]:
                    embeddings = torch.zeros(count, text_config.hidden_size)
                    self.register_parameter(f"{name}_{end}", nn.Parameter(embeddings))
        self._no_split_modules = sorted(_unsplittable(self))
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The language model's token embeddings."""
        return cast(nn.Module, self.language_model.get_input_embeddings())

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the language model's token embeddings."""
        self.language_model.set_input_embeddings(value)

    def edge_embeddings(self) -> list[nn.Parameter]:
        """The prefix and suffix embeddings `[P, D]` of all modalities that have them."""
        names = [f"{name}_{end}" for name in self.config.modalities for end in ("prefix", "suffix")]
        return [getattr(self, name) for name in names if hasattr(self, name)]

    def get_media_features(self, modality: str, media: Media) -> list[torch.Tensor]:
        """Embed preprocessed media: encoder, connector, and the modality's prefix and suffix.

        Args:
            modality: whose encoder.
            media: `[N, ...]` of one shape, or N tensors of any shapes; in any floating dtype.

        Returns:
            N tensors `[T, D]`; joined in reading order they may be given as `media_embeds`.

        Raises:
            ModelInputError: the model lacks the modality.
        """
        media_by_modality({modality: media}, self.config.modalities)
        encoder = getattr(self, f"{modality}_encoder")
        connector = getattr(self, f"{modality}_connector")
        dtype = next(p.dtype for p in encoder.parameters() if p.is_floating_point())
        embeddings = encode_by_shape(media, lambda same: connector(encoder(same.to(dtype))))
        return [self._with_edges(modality, embedding) for embedding in embeddings]

    def _with_edges(self, modality: str, embedding: torch.Tensor) -> torch.Tensor:
        edges = [getattr(self, f"{modality}_{end}", None) for end in ("prefix", "suffix")]
        parts = [edges[0], embedding, edges[1]]
        present = [part.to(embedding) for part in parts if part is not None]
        return torch.cat(present) if len(present) > 1 else embedding

    def embed_media(
        self, inputs: Mapping[str, Media | None], media_embeds: Mapping[str, torch.Tensor] | None
    ) -> dict[str, torch.Tensor]:
        """Embeddings `[sum T, D]` in reading order of all media given, by modality.

        Args:
            inputs: preprocessed media by input name; None where nothing was given.
            media_embeds: embeddings that were computed before, by modality; they win.

        Raises:
            ModelInputError: media of a modality that the model lacks.
        """
        known = self.config.modalities
        ready = media_by_modality(dict(media_embeds or {}), known)
        given = media_by_modality(inputs, known)
        computed = {
            name: torch.cat(self.get_media_features(name, media))
            for name, media in given.items()
            if name not in ready
        }
        return computed | {name: cast(torch.Tensor, embeds) for name, embeds in ready.items()}

    @can_return_tuple  # type: ignore[untyped-decorator]  # transformers is untyped
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        mm_token_type_ids: torch.Tensor | None = None,
        pixel_values: Media | None = None,
        pixel_values_videos: Media | None = None,
        input_features: Media | None = None,
        points: Media | None = None,
        media_embeds: Mapping[str, torch.Tensor] | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPast:
        """Hidden states `[B, L, D]` of a batch in which any row may hold any media.

        Args:
            input_ids: `[B, L]`; media are placeholders, one per embedding.
            attention_mask: `[B, L]`, 0 for padding, or what the language model takes.
            position_ids: `[B, L]`.
            past_key_values: any cache of transformers.
            inputs_embeds: `[B, L, D]` instead of `input_ids`.
            mm_token_type_ids: `[B, L]` modality of each position; read off the placeholders if
                absent. Required with `inputs_embeds` where it matters.
            pixel_values: pictures; like all media `[N, ...]` or a list, in reading order.
            pixel_values_videos: clips.
            input_features: sounds.
            points: point clouds.
            media_embeds: embeddings `[sum T, D]` computed before, by modality.
            **kwargs: what the language model takes.

        Raises:
            ModelInputError: the inputs contradict one another or name a modality that is lacking.
        """
        inputs = (pixel_values, pixel_values_videos, input_features, points)
        media = self.embed_media(dict(zip(MEDIA_INPUTS, inputs, strict=True)), media_embeds)
        routing = self._route(input_ids, inputs_embeds, mm_token_type_ids, bool(media))
        if inputs_embeds is None:
            inputs_embeds = self.get_input_embeddings()(input_ids)
            inputs_embeds = put_in_place(inputs_embeds, routing, media)
        elif media:
            inputs_embeds = put_in_place(inputs_embeds, routing, media)
        with self.stream_slot.using(routing if self.has_streams else None):
            return self.language_model(
                attention_mask=attention_mask,
                position_ids=position_ids,
                past_key_values=past_key_values,
                inputs_embeds=inputs_embeds,
                **kwargs,
            )

    def _route(
        self,
        input_ids: torch.Tensor | None,
        inputs_embeds: torch.Tensor | None,
        mm_token_type_ids: torch.Tensor | None,
        has_media: bool,
    ) -> Routing | None:
        """Which position belongs to which modality; None for a step of text."""
        if (input_ids is None) == (inputs_embeds is None):
            raise ModelInputError(
                "found both or neither of input_ids and inputs_embeds. Give exactly one."
            )
        if mm_token_type_ids is not None:
            return make_routing(mm_token_type_ids)
        if input_ids is None:
            if has_media or self.has_streams:
                raise ModelInputError(
                    "inputs_embeds came without mm_token_type_ids, but this model must know which "
                    "positions are media. Give mm_token_type_ids [B, L], 0 for text."
                )
            return None
        # A step of generation: one token, never a placeholder. Asking the tensor would cost a copy.
        if not self.config.modalities or (input_ids.shape[1] == 1 and not has_media):
            return None
        return make_routing(placeholder_types(input_ids, self.config.modalities))


def _unsplittable(model: nn.Module) -> set[str]:
    """Classes inside encoders that a device map must keep whole; transformers looks less deep."""
    inner = [module for module in model.modules() if module is not model]
    return {name for module in inner for name in getattr(module, "_no_split_modules", None) or ()}
