"""Chats as tokens, and which of the tokens the assistant says."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from omnicompose.errors import TrainingError
from omnicompose.training.records import Record

GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
Messages = Sequence[Mapping[str, object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """A chat before its media have taken their places.

    Attributes:
        text: what the template writes.
        input_ids: its tokens, one per placeholder.
        said: for each of them whether the assistant says it.
    """

    text: str
    input_ids: tuple[int, ...]
    said: tuple[bool, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRenderer:
    """Renders chats by a template.

    Attributes:
        tokenizer: fast, so that it knows which characters became which token.
        template: Jinja. A `generation` block in it marks what the assistant says; without one, a
            reply is what rendering its turn adds to rendering the turns before.
    """

    tokenizer: PreTrainedTokenizerBase
    template: str

    def render(self, record: Record) -> Rendered:
        """A record's text, tokens, and the tokens that the assistant says.

        Raises:
            TrainingError: the template cannot render it, or the reply is not found in the text.
        """
        try:
            if GENERATION.search(self.template):
                return self._by_block(record.messages)
            return self._by_difference(record)
        except (TemplateError, TypeError, KeyError) as error:
            raise TrainingError(f"{record.where}: messages: the chat template: {error}.") from error

    def _by_block(self, messages: Messages) -> Rendered:
        text = self._text(messages)
        encoded = self.tokenizer.apply_chat_template(
            list(messages),
            chat_template=self.template,
            return_dict=True,
            return_assistant_tokens_mask=True,
        )
        return Rendered(
            text=text,
            input_ids=tuple(encoded["input_ids"]),
            said=tuple(bool(mark) for mark in encoded["assistant_masks"]),
        )

    def _by_difference(self, record: Record) -> Rendered:
        text = self._text(record.messages)
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        spans = self._spans(record, text)
        said = [
            any(start < end_of and begin < end for begin, end_of in spans) and start < end
            for start, end in encoded["offset_mapping"]
        ]
        return Rendered(text=text, input_ids=tuple(encoded["input_ids"]), said=tuple(said))

    def _spans(self, record: Record, text: str) -> list[tuple[int, int]]:
        """Characters of every reply, its end token among them."""
        spans = []
        for place, message in enumerate(record.messages):
            if message["role"] == "assistant":
                before = self._text(record.messages[:place], add_generation_prompt=True)
                after = self._text(record.messages[: place + 1])
                # Some templates write the last turn otherwise, such as with its thoughts.
                if not (after.startswith(before) and text.startswith(before)):
                    raise TrainingError(
                        f"{record.where}: messages.{place}: the chat template does not write this "
                        "reply behind its generation prompt. Put a {% generation %} block into it."
                    )
                spans.append((len(before), min(len(after.rstrip("\n")), len(text))))
        return spans

    def _text(self, messages: Messages, *, add_generation_prompt: bool = False) -> str:
        text = self.tokenizer.apply_chat_template(
            list(messages),
            chat_template=self.template,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
        )
        return str(text)


def follow(rendered: Rendered, expanded: Sequence[int], where: str) -> list[bool]:
    """Which of the tokens are said, after placeholders became as many tokens as they stand for.

    Args:
        rendered: before.
        expanded: the tokens after.
        where: of the record, for the message.

    Raises:
        TrainingError: the tokens after are not those before with some written several times.
    """
    said: list[bool] = []
    for run in _runs_between(rendered, expanded):
        start = _find(run.tokens, expanded, len(said))
        if start is None:
            raise TrainingError(
                f"{where}: messages: the processor turns the chat into other tokens than its "
                "tokenizer. Report this processor; replies cannot be told from questions."
            )
        said += [False] * (start - len(said)) + list(run.said)
    return said + [False] * (len(expanded) - len(said))


@dataclass(frozen=True, slots=True)
class _Run:
    tokens: tuple[int, ...]
    said: tuple[bool, ...]


def _runs_between(rendered: Rendered, expanded: Sequence[int]) -> list[_Run]:
    """What stands between placeholders: tokens whose number differs before and after."""
    before, after = rendered.input_ids, list(expanded)
    moved = {token for token in set(before) if before.count(token) != after.count(token)}
    runs, start = [], 0
    for place, token in enumerate((*before, None)):
        if token is None or (token in moved and not rendered.said[place]):
            runs.append(_Run(before[start:place], rendered.said[start:place]))
            start = place + 1
    return [run for run in runs if run.tokens]


def _find(run: Sequence[int], tokens: Sequence[int], start: int) -> int | None:
    """Where a run stands in `tokens`, at `start` or later."""
    last = len(tokens) - len(run)
    wanted = list(run)
    return next(
        (
            place
            for place in range(start, last + 1)
            if list(tokens[place : place + len(run)]) == wanted
        ),
        None,
    )
