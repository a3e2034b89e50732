"""The composite that answers: `OmniComposeModel`, a head, and generation about media."""

from collections.abc import Mapping
from typing import cast

import torch
from torch import nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoModelForCausalLM,
    GenerationMixin,
    PreTrainedConfig,
)
from transformers.cache_utils import Cache
from transformers.generation import GenerationConfig
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, can_return_tuple

from omnicompose.modeling.base_omnicompose import MEDIA_INPUTS, OmniComposeModel
from omnicompose.modeling.configuration_omnicompose import OmniComposeConfig
from omnicompose.modeling.positions import lay_out
from omnicompose.modeling.pretrained_omnicompose import OmniComposePreTrainedModel
from omnicompose.modeling.router import (
    EmbeddedMedia,
    Media,
    placeholder_types,
    repeat_rows,
    unseen_rows,
)
from omnicompose.streams import only_modality

__all__ = [
    "OmniComposeForConditionalGeneration",
    "OmniComposeModel",
    "OmniComposePreTrainedModel",
    "suppress_placeholders",
]


def suppress_placeholders(config: OmniComposeConfig, generation: GenerationConfig) -> None:
    """Forbid generation to say placeholders: they would stand for media that nobody gave."""
    already = generation.suppress_tokens or []
    generation.suppress_tokens = sorted({*already, *config.placeholder_ids}) or None


class OmniComposeForConditionalGeneration(OmniComposePreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """A composite: ask it about any mixture of media, as `AutoModelForMultimodalLM`."""

    def __init__(self, config: OmniComposeConfig) -> None:
        """Build every part with fresh weights."""
        super().__init__(config)
        self.model = OmniComposeModel(config)
        text = cast(PreTrainedConfig, config.text_config)
        self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=_head_has_bias(text))
        self._tied_weights_keys = {"lm_head.weight": _embedding_name(self)}
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        """The head."""
        return self.lm_head

    def get_media_features(self, modality: str, media: Media) -> list[torch.Tensor]:
        """Embed preprocessed media; see `OmniComposeModel.get_media_features`."""
        return self.model.get_media_features(modality, media)

    def embed_each(self, modality: str, media: Media) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Embeddings and places of each medium; see `OmniComposeModel.embed_each`."""
        return self.model.embed_each(modality, media)

    def number_positions(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        places: Mapping[str, torch.Tensor],
    ) -> torch.LongTensor | None:
        """The `position_ids` that belong to prompts whose media are given as `media_embeds`.

        Args:
            input_ids: `[B, L]`.
            attention_mask: `[B, L]`, 0 for padding.
            places: modality to `[4, sum T]`, those of `embed_each` joined in reading order.

        Returns:
            `[3, B, L]` where the language model numbers three rows; None where it counts tokens.
        """
        if self.model.positions is None:
            return None
        types = placeholder_types(input_ids, self.config.modalities)
        return lay_out(
            types, attention_mask.bool(), places, torch.zeros(len(types), dtype=torch.int64)
        )

    @can_return_tuple  # type: ignore[untyped-decorator]  # transformers is untyped
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.LongTensor | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        mm_token_type_ids: torch.Tensor | None = None,
        pixel_values: Media | None = None,
        pixel_values_videos: Media | None = None,
        input_features: Media | None = None,
        points: Media | None = None,
        media_embeds: Mapping[str, torch.Tensor] | None = None,
        only_modality_ids: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> CausalLMOutputWithPast:
        """Logits `[B, L, vocabulary]`, and the loss if there are labels.

        Args:
            input_ids: this and what is not named here: see `OmniComposeModel.forward`.
            attention_mask: see there.
            position_ids: see there.
            past_key_values: see there.
            inputs_embeds: see there.
            mm_token_type_ids: see there.
            pixel_values: see there.
            pixel_values_videos: see there.
            input_features: see there.
            points: see there.
            media_embeds: see there.
            only_modality_ids: see there.
            **kwargs: see there.
            labels: `[B, L]`, -100 where no prediction is wanted (placeholders among these).
            logits_to_keep: how many last positions, or which ones; 0 for all.

        Raises:
            ModelInputError: the inputs contradict one another or name a modality that is lacking.
        """
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            mm_token_type_ids=mm_token_type_ids,
            pixel_values=pixel_values,
            pixel_values_videos=pixel_values_videos,
            input_features=input_features,
            points=points,
            media_embeds=media_embeds,
            only_modality_ids=only_modality_ids,
            **kwargs,
        )
        whole = isinstance(logits_to_keep, int)
        kept = slice(-logits_to_keep, None) if whole else logits_to_keep
        logits = self._logits(outputs.last_hidden_state[:, kept])
        loss = None
        if labels is not None:
            vocab_size = self.config.text_config.vocab_size
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=vocab_size, **kwargs)
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def _logits(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """What the family's own head does: Granite divides, Cohere multiplies, Gemma caps."""
        text = self.config.text_config
        logits: torch.Tensor = self.lm_head(hidden_states)
        if (divisor := getattr(text, "logits_scaling", None)) is not None:
            logits = logits / divisor
        if (factor := getattr(text, "logit_scale", None)) is not None:
            logits = logits * factor
        if (cap := getattr(text, "final_logit_softcapping", None)) is not None:
            logits = torch.tanh(logits / cap) * cap
        return logits

    def prepare_inputs_for_generation(
        self,
        input_ids: torch.Tensor,
        next_sequence_length: int | None = None,
        is_first_iteration: bool = False,
        **kwargs: object,
    ) -> dict[str, object]:
        """Give media to the step that reads their placeholders, and to no other."""
        inputs: dict[str, object] = super().prepare_inputs_for_generation(
            input_ids,
            next_sequence_length=next_sequence_length,
            is_first_iteration=is_first_iteration,
            **kwargs,
        )
        if self.config.single_modality_text == "own":
            types = self._types(input_ids, kwargs.get("mm_token_type_ids"))
            inputs["only_modality_ids"] = only_modality(types)
        if not is_first_iteration and kwargs.get("use_cache", True):
            for name in (*MEDIA_INPUTS, "media_embeds", "mm_token_type_ids"):
                inputs.pop(name, None)
        elif next_sequence_length is not None:
            types = self._types(input_ids, kwargs.get("mm_token_type_ids"))
            embeds = self._take_media(inputs)
            inputs["media_embeds"] = unseen_rows(embeds, types, next_sequence_length)
        return inputs

    def _expand_inputs_for_generation(
        self,
        expand_size: int = 1,
        is_encoder_decoder: bool = False,
        input_ids: torch.Tensor | None = None,
        **model_kwargs: object,
    ) -> tuple[torch.Tensor | None, dict[str, object]]:
        """Encode media once, and repeat the embeddings of each row as often as the row."""
        if expand_size > 1 and input_ids is not None:
            types = self._types(input_ids, model_kwargs.get("mm_token_type_ids"))
            embeds = self._take_media(model_kwargs)
            model_kwargs["media_embeds"] = repeat_rows(embeds, types, expand_size)
        expanded: tuple[torch.Tensor | None, dict[str, object]] = (
            super()._expand_inputs_for_generation(
                expand_size, is_encoder_decoder, input_ids, **model_kwargs
            )
        )
        return expanded

    def _prepare_position_ids_for_generation(
        self, inputs_tensor: torch.Tensor, model_kwargs: dict[str, object]
    ) -> torch.Tensor:
        """Positions `[B, L]`, or `[3, B, L]` where the language model numbers three rows.

        Media have to be embedded to know their places; the embeddings are kept for the prefill.
        """
        counted: torch.Tensor = super()._prepare_position_ids_for_generation(
            inputs_tensor, model_kwargs
        )
        counter = self.model.positions
        if counter is None:
            return counted
        words = model_kwargs.get("input_ids", inputs_tensor)
        words = words if isinstance(words, torch.Tensor) and words.shape[1] else inputs_tensor
        types = self._types(words, model_kwargs.get("mm_token_type_ids"))
        cache = cast(Cache | None, model_kwargs.get("past_key_values"))
        cached = 0 if cache is None else cache.get_seq_length()
        media = self._embed(model_kwargs)
        model_kwargs["media_embeds"] = dict(media.embeddings)
        unseen = types.shape[1] - cached
        new = EmbeddedMedia(
            embeddings=unseen_rows(media.embeddings, types, unseen),
            places={
                name: rows.T
                for name, rows in unseen_rows(
                    {name: places.T for name, places in media.places.items()}, types, unseen
                ).items()
            },
        )
        mask = cast(torch.Tensor | None, model_kwargs.get("attention_mask"))
        rows = counter.count(types[:, cached:], mask, new, cached)
        return torch.nn.functional.pad(rows, (cached, 0))

    def _types(self, input_ids: torch.Tensor, mm_token_type_ids: object) -> torch.Tensor:
        if isinstance(mm_token_type_ids, torch.Tensor):
            return mm_token_type_ids
        return placeholder_types(input_ids, self.config.modalities)

    def _take_media(self, inputs: dict[str, object]) -> dict[str, torch.Tensor]:
        """Embeddings of the media in `inputs`, which are removed there."""
        return dict(self._embed(inputs).embeddings)

    def _embed(self, inputs: dict[str, object]) -> EmbeddedMedia:
        media = {name: cast(Media | None, inputs.pop(name, None)) for name in MEDIA_INPUTS}
        ready = cast(Mapping[str, torch.Tensor] | None, inputs.pop("media_embeds", None))
        return self.model.embed_and_place(media, ready)


def _head_has_bias(text_config: PreTrainedConfig) -> bool:
    if type(text_config) not in MODEL_FOR_CAUSAL_LM_MAPPING:  # the text side of a larger family
        return False
    with torch.device("meta"):
        causal = AutoModelForCausalLM.from_config(text_config)
    return causal.get_output_embeddings().bias is not None


def _embedding_name(model: nn.Module) -> str:
    """Where the family keeps its token embeddings, which a tied head shares."""
    embeddings = model.get_input_embeddings()  # type: ignore[operator]
    (name,) = [name for name, module in model.named_modules() if module is embeddings]
    return f"{name}.weight"
