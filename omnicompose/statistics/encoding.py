"""From examples to what a model takes: tokens, media, and where the reply begins."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, cast

import torch
from transformers import PreTrainedTokenizerBase, ProcessorMixin

from omnicompose.errors import CalibrationError
from omnicompose.experts.auto import UNREADABLE, first_line, load_auto
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
        line: of the file of data.
        inputs: by name of the model's argument; `input_ids` `[1, L]` among them.
        reply_from: position of the reply's first token; None where all of it is raw text.
        media: `[L]` bool, positions that media embeddings fill.
    """

    line: int
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
        """Open the tokenizer; the processor is opened when media are shown.

        Raises:
            CalibrationError: there is no tokenizer that can be read.
        """
        self._label, self._folder = subject.label, subject.folder
        self._config = subject.model.config
        try:
            found = load_auto("AutoTokenizer", self._label, self._folder, trust_remote_code=False)
        except UNREADABLE as error:
            raise CalibrationError(
                f"{self._label}: no tokenizer that can be read ({first_line(error)}), which data "
                "need. Put its files (tokenizer.json, tokenizer_config.json) into the folder."
            ) from error
        self._tokenizer = cast(PreTrainedTokenizerBase, found)

    @cached_property
    def _processor(self) -> ProcessorMixin:
        try:
            found = load_auto("AutoProcessor", self._label, self._folder, trust_remote_code=False)
        except UNREADABLE as error:
            raise self._lacks_processor(first_line(error)) from error
        if not isinstance(found, ProcessorMixin):
            raise self._lacks_processor(f"found a {type(found).__name__}")
        return found

    def _lacks_processor(self, found: str) -> CalibrationError:
        return CalibrationError(
            f"{self._label}: the data show media, and it has no processor for them ({found}). "
            "Collect on a compose recipe, or put its processor_config.json there."
        )

    def encode(self, prompts: Sequence[Prompt], *, with_replies: bool) -> list[Example]:
        """Tokens and media of every example.

        Raises:
            CalibrationError: media are shown to a model without a processor, or cannot be read.
        """
        return [self._try(prompt, with_reply=with_replies) for prompt in prompts]

    def _try(self, prompt: Prompt, *, with_reply: bool) -> Example:
        try:
            return self._encode(prompt, with_reply=with_reply)
        except UNREADABLE as error:
            raise CalibrationError(
                f"{self._label}: line {prompt.line} of the data cannot be shown to it "
                f"({first_line(error)}). Mend the line or its media."
            ) from error

    def decode(self, token_ids: torch.Tensor) -> str:
        """Words of tokens `[n]`, without special ones."""
        return str(self._tokenizer.decode(token_ids, skip_special_tokens=True))

    def _encode(self, prompt: Prompt, *, with_reply: bool) -> Example:
        inputs = dict(self._raw(prompt) if self._is_raw(prompt) else self._turn(prompt))
        reply_from = None if prompt.raw and prompt.reply is None else inputs["input_ids"].shape[1]
        if with_reply and prompt.reply is not None:
            _append(inputs, self._spelled(prompt.reply))
        media = self._media(inputs)
        return Example(line=prompt.line, inputs=inputs, reply_from=reply_from, media=media)

    def _is_raw(self, prompt: Prompt) -> bool:
        return prompt.raw or (not _shows(prompt) and self._tokenizer.chat_template is None)

    def _raw(self, prompt: Prompt) -> "Mapping[str, torch.Tensor]":
        text = "".join(cast(tuple[str, ...], prompt.content))
        found = self._tokenizer(text, return_tensors="pt")
        return {name: found[name] for name in ("input_ids", "attention_mask")}

    def _turn(self, prompt: Prompt) -> "Mapping[str, torch.Tensor]":
        if not _shows(prompt):
            text = "".join(cast(tuple[str, ...], prompt.content))
            found = self._tokenizer.apply_chat_template(
                [{"role": "user", "content": text}],
                add_generation_prompt=True,
                return_dict=True,
                return_tensors="pt",
            )
        else:
            parts = [_written(part) for part in prompt.content]
            found = self._processor.apply_chat_template(
                [{"role": "user", "content": parts}],
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


def _shows(prompt: Prompt) -> bool:
    return any(isinstance(part, Shown) for part in prompt.content)


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
