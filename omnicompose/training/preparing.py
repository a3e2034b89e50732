"""From records to model inputs: the processor sees every record once before training starts."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from omnicompose.errors import MediaError, ModelInputError, TrainingError
from omnicompose.modeling.media_inputs import Reading, read_medium
from omnicompose.training.records import Record, refuse
from omnicompose.training.subject import Subject
from omnicompose.training.templates import ChatRenderer, follow

ARGUMENTS = {"image": "images", "video": "videos", "audio": "audio", "point": "points"}
"""What processors call media of each modality."""
TOKEN_INPUTS = ("input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids")
"""Model inputs of which there is one number per token; all others belong to media."""
UNSEEN = -100
"""The label of a token that no loss looks at."""

MediaInput = torch.Tensor | Sequence[torch.Tensor]
MediaInputs = Mapping[str, MediaInput]
"""Model inputs that belong to media, by name: `[n, ...]`, or n tensors of any shapes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A record's tokens.

    Attributes:
        record: where they came from.
        tokens: per name `[L]` int64, `labels` among them.
    """

    record: Record
    tokens: Mapping[str, torch.Tensor]

    def __len__(self) -> int:
        """Tokens, media included."""
        return len(self.tokens["input_ids"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparer:
    """Turns records into model inputs.

    Attributes:
        subject: whose inputs.
        renderer: of chats.
        max_length: longest record in tokens.
    """

    subject: Subject
    renderer: ChatRenderer
    max_length: int

    def prepare(self, record: Record) -> tuple[Prepared, MediaInputs]:
        """A record's tokens and its media.

        Raises:
            TrainingError: it cannot be rendered, is too long, or nothing is left to learn.
        """
        rendered = self.renderer.render(record)
        inputs = self._process(record, rendered.text)
        input_ids = inputs["input_ids"][0]
        said = torch.tensor(follow(rendered, input_ids.tolist(), record.where))
        self._check(record, said)
        tokens = {name: inputs[name][0] for name in TOKEN_INPUTS if name in inputs}
        tokens["labels"] = input_ids.masked_fill(~said, UNSEEN)
        media = {name: value for name, value in inputs.items() if name not in TOKEN_INPUTS}
        return Prepared(record=record, tokens=tokens), media

    def media(self, record: Record) -> MediaInputs:
        """A record's media once more."""
        return self.prepare(record)[1]

    def _process(self, record: Record, text: str) -> Mapping[str, torch.Tensor]:
        bos = self.subject.tokenizer.bos_token
        # As transformers itself does it where a chat is rendered and tokenised in one call.
        is_begun = bos is not None and text.startswith(bos)
        media: dict[str, list[object]] = {}
        try:
            for modality, path in record.media:
                medium = self._read(modality, path)
                media.setdefault(ARGUMENTS[modality], []).append(medium)
            return self.subject.processor(
                text=[text], return_tensors="pt", add_special_tokens=not is_begun, **media
            )
        except (MediaError, ModelInputError, ValueError) as error:
            raise TrainingError(f"{record.where}: messages: {error}") from error

    def _read(self, modality: str, path: Path) -> object:
        if self.subject.takes_paths:
            return str(path)
        extractor = getattr(self.subject.processor, "feature_extractor", None)
        rate = getattr(extractor, "sampling_rate", 0)
        return read_medium(modality, path, Reading(sample_rate_hz=rate))

    def _check(self, record: Record, said: torch.Tensor) -> None:
        if len(said) > self.max_length:
            raise TrainingError(
                f"{record.where}: messages: found {len(said)} tokens, media included, expected "
                f"{self.max_length} at most. Shorten the chat, or raise `max_length`."
            )
        if not said[1:].any():
            raise TrainingError(
                f"{record.where}: messages: found no token that the assistant says. Does the chat "
                "template write its replies?"
            )


def prepare_all(
    preparer: Preparer, records: Iterable[Record]
) -> Iterable[tuple[Prepared, MediaInputs]]:
    """Every record's tokens and media, one after the other.

    Raises:
        TrainingError: one error that lists every record that cannot be used.
    """
    problems: list[str] = []
    for record in records:
        try:
            prepared = preparer.prepare(record)
        except TrainingError as error:
            problems.append(str(error))
        else:
            yield prepared
    refuse(problems)
