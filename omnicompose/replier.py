"""A composite loaded as any user would load it, ready to reply."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import BatchFeature, PreTrainedModel, ProcessorMixin

from omnicompose.modeling.loading import open_composite, open_model

ContentItem = Mapping[str, str]
"""`{"type": "image", "path": ...}` or `{"type": "text", "text": ...}`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replier:
    """A loaded composite that answers one user turn at a time.

    Attributes:
        model: in evaluation mode.
        processor: its other half.
    """

    model: PreTrainedModel
    processor: ProcessorMixin

    def reply(self, content: Sequence[ContentItem], max_new_tokens: int) -> str:
        """The greedy answer to one user turn."""
        inputs = self._encode(content).to(self.model.device)
        with torch.inference_mode():
            tokens = self.model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)
        new_tokens = tokens[0, inputs["input_ids"].shape[1] :]
        text: str = self.processor.tokenizer.decode(new_tokens, skip_special_tokens=True)
        return text.strip()

    def count_tokens(self, item: ContentItem) -> int:
        """How many positions one medium takes, its prefix and suffix included."""
        inputs = self._encode([item])
        return int((inputs["mm_token_type_ids"] != 0).sum())

    def _encode(self, content: Sequence[ContentItem]) -> BatchFeature:
        turns = [{"role": "user", "content": list(content)}]
        return self.processor.apply_chat_template(
            turns,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )


def load_replier(model_dir: Path, *, device: str = "cpu") -> Replier:
    """Load a folder that `omnicompose compose` wrote.

    On a CPU the weights become fp32: half precision is many times slower there.

    Raises:
        SourceError: it cannot be loaded whole.
    """
    model, processor = open_composite(model_dir, torch.float32 if device == "cpu" else "auto")
    return Replier(model=model.to(device), processor=processor)


def load_stored(model_dir: Path) -> PreTrainedModel:
    """The composite in the dtype in which it was written.

    Raises:
        SourceError: it cannot be loaded whole.
    """
    return open_model(model_dir, "auto")
