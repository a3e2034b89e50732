"""From examples to what a model takes: tokens, media, and where the reply begins."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from transformers import AutoProcessor, AutoTokenizer, PreTrainedTokenizerBase, ProcessorMixin

from omnicompose.errors import CalibrationError
from omnicompose.modalities import MODALITIES
from omnicompose.statistics.prompts import Prompt, Shown
from omnicompose.statistics.subject import Subject

if TYPE_CHECKING:
    from collections.abc import Mapping

PER_TOKEN = ("input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids")


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One example as the model takes it.

    Attributes:
        inputs: by name of the model's argument; `input_ids` `[1, L]` among them.
        reply_from: position of the reply's first token; None where all of it is raw text.
        media: `[L]` bool, positions that media embeddings fill.
    """

    inputs: "Mapping[str, torch.Tensor]"
    reply_from: int | None
    media: torch.Tensor

    @property
    def num_tokens(self) -> int:
        """Length of the prompt with its reply."""
        return self.inputs["input_ids"].shape[1]


class Encoder:
    """Renders and tokenises examples as the model's own processor or tokenizer does."""

    def __init__(self, subject: Subject) -> None:
        """Open the tokenizer, and the processor where there is one."""
        self._label = subject.label
        self._config = subject.model.config
        self._tokenizer, self._processor = _opened(subject.folder)

    def encode(self, prompts: Sequence[Prompt], *, with_replies: bool) -> list[Example]:
        """Tokens and media of every example.

        Raises:
            CalibrationError: media are shown to a model without a processor.
        """
        return [self._encode(prompt, with_reply=with_replies) for prompt in prompts]

    def decode(self, token_ids: torch.Tensor) -> str:
        """Words of tokens `[n]`, without special ones."""
        return str(self._tokenizer.decode(token_ids, skip_special_tokens=True))

    def _encode(self, prompt: Prompt, *, with_reply: bool) -> Example:
        inputs = dict(self._raw(prompt) if self._is_raw(prompt) else self._turn(prompt))
        reply_from = None if prompt.raw and prompt.reply is None else inputs["input_ids"].shape[1]
        if with_reply and prompt.reply is not None:
            _append(inputs, self._spelled(prompt.reply))
        media = self._media(inputs)
        return Example(inputs=inputs, reply_from=reply_from, media=media)

    def _is_raw(self, prompt: Prompt) -> bool:
        shown = any(isinstance(part, Shown) for part in prompt.content)
        return prompt.raw or (not shown and self._tokenizer.chat_template is None)

    def _raw(self, prompt: Prompt) -> "Mapping[str, torch.Tensor]":
        text = "".join(cast(tuple[str, ...], prompt.content))
        found = self._tokenizer(text, return_tensors="pt")
        return {name: found[name] for name in ("input_ids", "attention_mask")}

    def _turn(self, prompt: Prompt) -> "Mapping[str, torch.Tensor]":
        shown = [part for part in prompt.content if isinstance(part, Shown)]
        if shown and self._processor is None:
            raise CalibrationError(
                f"{self._label}: the data show {shown[0].modality}, and the model has no processor "
                "for media. Collect on a compose recipe, or put its processor_config.json there."
            )
        if self._processor is None or not shown:
            text = "".join(cast(tuple[str, ...], prompt.content)) if not shown else ""
            turn: list[dict[str, object]] = [{"role": "user", "content": text}]
            found = self._tokenizer.apply_chat_template(
                turn, add_generation_prompt=True, return_dict=True, return_tensors="pt"
            )
        else:
            turn = [{"role": "user", "content": [_written(part) for part in prompt.content]}]
            found = self._processor.apply_chat_template(
                turn,
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                processor_kwargs={"return_tensors": "pt"},
            )
        return {name: value for name, value in found.items() if isinstance(value, torch.Tensor)}

    def _spelled(self, reply: str) -> torch.Tensor:
        ids = self._tokenizer(reply, add_special_tokens=False)["input_ids"]
        end = self._tokenizer.eos_token_id
        return torch.tensor([ids + ([] if end is None else [end])])

    def _media(self, inputs: "Mapping[str, torch.Tensor]") -> torch.Tensor:
        if "mm_token_type_ids" in inputs:
            return inputs["mm_token_type_ids"][0] != 0
        ids = [
            getattr(self._config, f"{modality}_token_id", None)
            or getattr(self._config, f"{modality}_token_index", None)
            for modality in MODALITIES
        ]
        wanted = torch.tensor([one for one in ids if isinstance(one, int)])
        return torch.isin(inputs["input_ids"][0], wanted)


def _opened(folder: Path) -> tuple[PreTrainedTokenizerBase, ProcessorMixin | None]:
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if not _has_processor(folder):
        return tokenizer, None
    return tokenizer, AutoProcessor.from_pretrained(folder, local_files_only=True)


def _has_processor(folder: Path) -> bool:
    file = folder / "processor_config.json"
    return file.is_file() and "processor_class" in json.loads(file.read_text(encoding="utf-8"))


def _written(part: str | Shown) -> dict[str, object]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    return {"type": part.modality, "path": str(part.path)}


def _append(inputs: dict[str, torch.Tensor], reply: torch.Tensor) -> None:
    """Lengthen what has one entry per token by a reply."""
    fill = {"attention_mask": torch.ones_like(reply)}
    for name in PER_TOKEN:
        if name in inputs:
            added = reply if name == "input_ids" else fill.get(name, torch.zeros_like(reply))
            inputs[name] = torch.cat([inputs[name], added.to(inputs[name].dtype)], dim=1)
