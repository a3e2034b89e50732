"""Voxtral's sounds in a prompt, without mistral-common.

transformers leaves a prompt with sounds in it to mistral-common, which does two things: a sound is
filled up with silence to whole chunks of 30 s, and is written as `[BEGIN_AUDIO]` and one `[AUDIO]`
for each 80 ms of them. The features are computed by transformers either way.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from transformers import (
    BatchFeature,
    FeatureExtractionMixin,
    PreTrainedTokenizerBase,
    ProcessorMixin,
    VoxtralProcessor,
)

BEGIN, SOUND = "[BEGIN_AUDIO]", "[AUDIO]"
FRAMES_PER_EMBEDDING = 8
"""The tower halves 10 ms frames once, and four of its outputs are joined: 12.5 a second."""


class VoxtralSoundProcessor(VoxtralProcessor):  # type: ignore[misc]  # transformers is untyped
    """One prompt with one sound, as mistral-common writes it."""

    def __init__(
        self, feature_extractor: FeatureExtractionMixin, tokenizer: PreTrainedTokenizerBase
    ) -> None:
        """Join the parts; the placeholder is found by its text, not by its published id."""
        super().__init__(feature_extractor, tokenizer)
        self.audio_token = SOUND
        self.audio_token_id = tokenizer.convert_tokens_to_ids(SOUND)

    def __call__(
        self,
        text: Sequence[str],
        audio: Sequence[NDArray[np.float32]],
        audio_kwargs: Mapping[str, object] | None = None,
        return_tensors: str = "pt",
    ) -> BatchFeature:
        """Token ids `[1, L]` and log-mel features `[chunks, mel bins, 3000]`.

        Args:
            text: one prompt, with `[AUDIO]` where the sound stands.
            audio: one mono sound `[S]` at 16 kHz.
            audio_kwargs: what differs from the family's settings of the feature extractor.
            return_tensors: `pt`.
        """
        settings = {**self.audio_kwargs, **(audio_kwargs or {})}
        num_frames = settings.pop("max_source_positions")
        features = self._retrieve_input_features(audio, num_frames, **settings)
        num_embeddings = features.shape[0] * (num_frames // FRAMES_PER_EMBEDDING)
        prompt = text[0].replace(BEGIN + SOUND, SOUND)
        prompt = prompt.replace(SOUND, BEGIN + SOUND * num_embeddings)
        words = self.tokenizer([prompt], return_tensors=return_tensors)
        return BatchFeature({**words, "input_features": features})


def taking_sounds(processor: ProcessorMixin) -> ProcessorMixin:
    """The processor itself, or in Voxtral's place one that takes prompts with sounds."""
    if type(processor) is not VoxtralProcessor:
        return processor
    return VoxtralSoundProcessor(processor.feature_extractor, processor.tokenizer)
