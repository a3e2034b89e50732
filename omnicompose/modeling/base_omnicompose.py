"""The composite without its head: encoders, connectors and one language model with its streams."""

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import nn
from transformers import AutoModel, PreTrainedConfig
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutputWithPast
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, can_return_tuple

from omnicompose.connectors import make_connector
from omnicompose.encoders import make_encoder, media_dtype
from omnicompose.errors import ModelInputError
from omnicompose.modalities import MODALITIES
from omnicompose.modeling.configuration_omnicompose import OmniComposeConfig
from omnicompose.modeling.native import NATIVE, SHARED, NativeEncoder
from omnicompose.modeling.positions import ThreePositions, join_places, line_of_places
from omnicompose.modeling.pretrained_omnicompose import OmniComposePreTrainedModel
from omnicompose.modeling.router import (
    EmbeddedMedia,
    Media,
    Tensors,
    encode_by_shape,
    media_by_modality,
    placeholder_types,
    put_in_place,
)
from omnicompose.streams import (
    TEXT_OF,
    Routing,
    StreamSpec,
    decouple,
    make_routing,
    only_modality,
)

MEDIA_INPUTS = tuple(modality.input_name for modality in MODALITIES.values())


class OmniComposeModel(OmniComposePreTrainedModel):
    """Encoders, connectors and the language model without its head."""

    def __init__(self, config: OmniComposeConfig) -> None:
        """Build every part with fresh weights."""
        super().__init__(config)
        text_config = cast(PreTrainedConfig, config.text_config)
        modalities = config.modalities or {}
        self.language_model = AutoModel.from_config(text_config)
        streams = {
            f"{start}{name}": StreamSpec.from_config(entry[key])
            for key, start in (("stream", ""), ("text_stream", TEXT_OF))
            for name, entry in modalities.items()
            if entry[key] is not None
        }
        self.has_streams = bool(streams)
        self.stream_slot = decouple(self.language_model, streams)
        for name, entry in modalities.items():
            self._add_modality(name, entry)
            for end in ("prefix", "suffix"):
                if count := entry[f"num_{end}_tokens"]:
                    embeddings = torch.zeros(count, text_config.hidden_size)
                    self.register_parameter(f"{name}_{end}", nn.Parameter(embeddings))
        self._no_split_modules = sorted(_unsplittable(self))
        in_three_rows = "mrope_section" in (text_config.rope_parameters or {})
        self.positions = ThreePositions() if in_three_rows else None
        self.post_init()

    def _add_modality(self, name: str, entry: Mapping[str, Mapping[str, object]]) -> None:
        """Build a modality's encoder and connector; a family of its own is both in one."""
        # Direct attributes: transformers looks for unsplittable modules among these only.
        if entry["encoder"]["type"] == SHARED:
            return
        if entry["encoder"]["type"] == NATIVE:
            config = cast(Mapping[str, object], entry["encoder"]["config"])
            setattr(self, f"{name}_encoder", NativeEncoder.from_config(config))
            return
        setattr(self, f"{name}_encoder", make_encoder(entry["encoder"]))
        setattr(self, f"{name}_connector", make_connector(entry["connector"]))

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
        return [embedding for embedding, _ in self.embed_each(modality, media)]

    def embed_each(self, modality: str, media: Media) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """As `get_media_features`, each medium's embeddings `[T, D]` with their places `[4, T]`."""
        media_by_modality({modality: media}, self.config.modalities)
        described = self.config.modalities[modality]["encoder"]
        owner = described["config"]["with"] if described["type"] == SHARED else modality
        encoder = getattr(self, f"{owner}_encoder")
        if isinstance(encoder, NativeEncoder):
            found = encoder(cast(Sequence[Mapping[str, torch.Tensor]], media))
            return [(self._with_edges(modality, embedding), places) for embedding, places in found]
        connector = getattr(self, f"{modality}_connector")
        dtype = media_dtype(encoder)
        tensors = cast(Tensors, media)
        embeddings = [
            self._with_edges(modality, one)
            for one in encode_by_shape(tensors, lambda same: connector(encoder(same.to(dtype))))
        ]
        return [(one, line_of_places(len(one), one.device)) for one in embeddings]

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
        return dict(self.embed_and_place(inputs, media_embeds).embeddings)

    def embed_and_place(
        self, inputs: Mapping[str, Media | None], media_embeds: Mapping[str, torch.Tensor] | None
    ) -> EmbeddedMedia:
        """As `embed_media`, with the places of what is computed here."""
        known = self.config.modalities
        ready = media_by_modality(dict(media_embeds or {}), known)
        given = media_by_modality(inputs, known)
        encoded = {
            name: self.embed_each(name, media) for name, media in given.items() if name not in ready
        }
        computed = {name: torch.cat([one for one, _ in found]) for name, found in encoded.items()}
        return EmbeddedMedia(
            embeddings=computed
            | {name: cast(torch.Tensor, embeds) for name, embeds in ready.items()},
            places={
                name: join_places([places for _, places in found])
                for name, found in encoded.items()
            },
        )

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
        only_modality_ids: torch.Tensor | None = None,
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
            only_modality_ids: `[B]` the type of the one modality in each whole prompt, 0 where
                there are none or several; read off these positions if absent. For steps with a
                cache where `config.single_modality_text` is `own`; `generate` gives it.
            **kwargs: what the language model takes.

        Raises:
            ModelInputError: the inputs contradict one another or name a modality that is lacking.
        """
        inputs = (pixel_values, pixel_values_videos, input_features, points)
        embedded = self.embed_and_place(dict(zip(MEDIA_INPUTS, inputs, strict=True)), media_embeds)
        media = embedded.embeddings
        types = self._routed_types(input_ids, inputs_embeds, mm_token_type_ids, bool(media))
        if self.positions is not None and position_ids is None:
            words = input_ids if inputs_embeds is None else inputs_embeds[..., 0]
            own_types = self._types(cast(torch.Tensor, words), mm_token_type_ids)
            cached = 0 if past_key_values is None else past_key_values.get_seq_length()
            position_ids = self.positions.count(own_types, attention_mask, embedded, cached)
        routing = self._route(types, only_modality_ids)
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

    def _routed_types(
        self,
        input_ids: torch.Tensor | None,
        inputs_embeds: torch.Tensor | None,
        mm_token_type_ids: torch.Tensor | None,
        has_media: bool,
    ) -> torch.Tensor | None:
        """Which position belongs to which modality, `[B, L]`; None for a step of text."""
        if (input_ids is None) == (inputs_embeds is None):
            raise ModelInputError(
                "found both or neither of input_ids and inputs_embeds. Give exactly one."
            )
        if mm_token_type_ids is not None:
            return mm_token_type_ids
        if input_ids is None:
            if has_media or self.has_streams:
                raise ModelInputError(
                    "inputs_embeds came without mm_token_type_ids, but this model must know which "
                    "positions are media. Give mm_token_type_ids [B, L], 0 for text."
                )
            return None
        # A step of generation: one token, never a placeholder. Asking the tensor would cost a copy.
        if not self.config.modalities or (input_ids.shape[1] == 1 and not has_media):
            return None if self.config.single_modality_text == "merged" else input_ids * 0
        return placeholder_types(input_ids, self.config.modalities)

    def _types(self, words: torch.Tensor, mm_token_type_ids: torch.Tensor | None) -> torch.Tensor:
        if mm_token_type_ids is not None:
            return mm_token_type_ids[:, -words.shape[1] :]
        if words.is_floating_point():  # Embeddings: nothing says which of them are media.
            return torch.zeros_like(words, dtype=torch.int64)
        return placeholder_types(words, self.config.modalities)

    def _route(
        self, types: torch.Tensor | None, only_modality_ids: torch.Tensor | None
    ) -> Routing | None:
        """The streams that positions of these types visit; None where all use the text weights."""
        if types is None:
            return None
        known = None
        if self.config.single_modality_text != "merged":
            known = only_modality(types) if only_modality_ids is None else only_modality_ids
        routing: Routing | None = make_routing(types, known)
        return routing


def _unsplittable(model: nn.Module) -> set[str]:
    """Classes inside encoders that a device map must keep whole; transformers looks less deep."""
    inner = [module for module in model.modules() if module is not model]
    return {name for module in inner for name in getattr(module, "_no_split_modules", None) or ()}
