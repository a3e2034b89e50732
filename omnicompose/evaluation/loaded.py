"""What is used of a loaded model, its processor and its tokenizer: nothing else is relied upon."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch

Message = dict[str, object]
Inputs = torch.Tensor | Mapping[str, torch.Tensor]
"""What an encoder takes of one medium: a tensor, or a family's own model inputs."""


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


class Preprocessed(Protocol):
    """One medium as an `OmniComposeProcessor` prepares it."""

    @property
    def inputs(self) -> Inputs:
        """What its encoder takes."""
        ...

    @property
    def text(self) -> str:
        """What stands for it in a prompt, a placeholder for each embedding."""
        ...


class Processor(Protocol):
    """What is used of an `OmniComposeProcessor`."""

    tokenizer: Tokenizer
    modalities: Mapping[str, Mapping[str, object]]

    def prepare_media(
        self, name: str, media: Sequence[str], options: Mapping[str, object]
    ) -> Sequence[Preprocessed]:
        """Media files of one modality, preprocessed."""
        ...

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

    def embed_each(
        self, modality: str, media: Sequence[Inputs]
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Embeddings `[T, D]` and places `[4, T]` of each of N preprocessed media."""
        ...

    def number_positions(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        places: Mapping[str, torch.Tensor],
    ) -> torch.Tensor | None:
        """Positions `[3, B, L]` of prompts given with embeddings, if the model needs them."""
        ...

    def register_forward_hook(
        self, hook: Callable[[object, object, "HasLogits"], None]
    ) -> "Removable":
        """Call a function with every output."""
        ...

    def __call__(
        self,
        *,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        media_embeds: dict[str, torch.Tensor] | None,
        position_ids: torch.Tensor | None,
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
        position_ids: torch.Tensor | None,
        max_new_tokens: int,
        do_sample: bool,
        pad_token_id: int,
    ) -> torch.Tensor:
        """Token ids `[B, L + new]`."""
        ...


class HasLogits(Protocol):
    """What a forward pass returns."""

    logits: torch.Tensor


class Removable(Protocol):
    """A hook's handle."""

    def remove(self) -> None:
        """Call the function no more."""
        ...
