"""What is used of a loaded model, its processor and its tokenizer: nothing else is relied upon."""

from collections.abc import Sequence
from typing import Protocol

import torch

Message = dict[str, object]


class Tokenizer(Protocol):
    """What is used of a transformers tokenizer."""

    bos_token: str | None
    pad_token_id: int | None
    eos_token_id: int | None
    all_special_ids: list[int]

    def __call__(self, text: list[str], *, add_special_tokens: bool) -> dict[str, list[list[int]]]:
        """Token ids of texts, under `input_ids`."""
        ...

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of token ids, special tokens included."""
        ...

    def batch_decode(self, sequences: torch.Tensor, *, skip_special_tokens: bool) -> list[str]:
        """Texts of token ids."""
        ...


class Processor(Protocol):
    """What is used of a transformers processor."""

    tokenizer: Tokenizer

    def apply_chat_template(
        self,
        conversation: list[list[Message]],
        *,
        add_generation_prompt: bool,
        tokenize: bool,
        return_dict: bool,
        processor_kwargs: dict[str, object] | None = None,
    ) -> list[str] | dict[str, torch.Tensor]:
        """Prompts as texts, or as model inputs."""
        ...


class ComposedModel(Protocol):
    """What is used of an `OmniComposeForConditionalGeneration`."""

    device: torch.device

    def get_media_features(
        self, modality: str, media: Sequence[torch.Tensor]
    ) -> list[torch.Tensor]:
        """Embeddings `[T, D]` of each of N preprocessed media."""
        ...

    def __call__(
        self,
        *,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        media_embeds: dict[str, torch.Tensor] | None,
        logits_to_keep: int,
        use_cache: bool,
    ) -> "HasLogits":
        """One forward pass."""
        ...

    def generate(
        self,
        *,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        media_embeds: dict[str, torch.Tensor] | None,
        max_new_tokens: int,
        do_sample: bool,
        pad_token_id: int,
    ) -> torch.Tensor:
        """Token ids `[B, L + new]`."""
        ...


class HasLogits(Protocol):
    """What a forward pass returns."""

    logits: torch.Tensor
