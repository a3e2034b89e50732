"""One answer from a loaded composite: the prompt with its media, then tokens as they are made."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import cast

import torch
from transformers import BatchFeature, StoppingCriteria, StoppingCriteriaList, TextStreamer

from omnicompose.errors import MediaError, ModelInputError, RequestError
from omnicompose.media import check_media
from omnicompose.replier import Replier
from omnicompose.serving.chat import ChatRequest, Upload
from omnicompose.serving.limits import ServingOptions

Chat = list[dict[str, object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What one medium of a request became.

    Attributes:
        modality: of the medium.
        encoder: that saw it.
        connector: that made embeddings of it.
        stream: whose weights its positions use: its modality's own or `text`.
        tokens: positions that it takes in the prompt.
    """

    modality: str
    encoder: str
    connector: str
    stream: str
    tokens: int

    def to_json(self) -> dict[str, object]:
        """The fields as plain data."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How an answer ended.

    Attributes:
        reason: `stop`, or `length` where tokens or time ran out.
        prompt_tokens: of the dialogue, media included.
        answer_tokens: of the answer.
    """

    reason: str
    prompt_tokens: int
    answer_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """Who waits for an answer; called from the thread that computes it.

    Attributes:
        shown: gets what the media became, before the first word.
        text: gets each piece of the answer.
        gone: set when nobody listens any more.
    """

    shown: Callable[[list[Shown]], None]
    text: Callable[[str], None]
    gone: Event


class _Pieces(TextStreamer):  # type: ignore[misc]  # transformers is untyped here
    """Hands finished words on instead of printing them, up to the first of the stop texts."""

    def __init__(self, tokenizer: object, stop: Sequence[str], listener: Listener) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self.stop = stop
        self.listener = listener
        self.stopped = False
        self.held = ""

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        if self.stopped:
            return
        self.held += text
        found = [place for one in self.stop if (place := self.held.find(one)) >= 0]
        self.stopped = bool(found)
        # The beginning of a stop text may be the end of what is known so far.
        unsure = 0 if stream_end else max((len(one) - 1 for one in self.stop), default=0)
        end = min(found) if found else max(0, len(self.held) - unsure)
        if end:
            self.listener.text(self.held[:end])
        self.held = self.held[end:]


class _Until(StoppingCriteria):  # type: ignore[misc]  # transformers is untyped here
    """Stops when time is up, a stop text was said, or nobody listens."""

    def __init__(self, deadline: float, gone: Event, pieces: _Pieces) -> None:
        self.deadline = deadline
        self.gone = gone
        self.pieces = pieces

    @property
    def is_cut_off(self) -> bool:
        return self.gone.is_set() or time.monotonic() > self.deadline

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: object) -> torch.Tensor:
        over = self.is_cut_off or self.pieces.stopped
        return torch.full((len(input_ids),), over, device=input_ids.device)


def answer(
    replier: Replier, request: ChatRequest, options: ServingOptions, listener: Listener
) -> Ending:
    """Answer one request.

    Args:
        replier: the loaded composite.
        request: what was asked.
        options: its limits.
        listener: who gets the answer piece by piece.

    Raises:
        RequestError: the prompt is longer than the model reads.
        ModelInputError: a modality that the composite lacks, or no words.
        MediaError: a medium is not what it was given as, or too large.
    """
    with TemporaryDirectory(prefix="omnicompose-upload-") as folder:
        chat, media = _written(request, Path(folder), options)
        inputs = _encode(replier, chat)
        listener.shown([_shown(replier, *medium) for medium in media])
    prompt_tokens = int(inputs["input_ids"].shape[1])
    _check_length(replier, prompt_tokens, request)
    pieces = _Pieces(replier.processor.tokenizer, request.stop, listener)
    until = _Until(time.monotonic() + options.seconds, listener.gone, pieces)
    with torch.inference_mode(), _seeded(request.seed):
        tokens = replier.model.generate(
            **inputs.to(replier.model.device),
            **_sampling(request),
            streamer=pieces,
            stopping_criteria=StoppingCriteriaList([until]),
        )
    answer_tokens = tokens.shape[1] - prompt_tokens
    whole = pieces.stopped or (answer_tokens < request.new_tokens and not until.is_cut_off)
    return Ending(
        reason="stop" if whole else "length",
        prompt_tokens=prompt_tokens,
        answer_tokens=answer_tokens,
    )


def _written(
    request: ChatRequest, folder: Path, options: ServingOptions
) -> tuple[Chat, list[tuple[str, Path]]]:
    """The dialogue with its media as files of ours, which live as long as the prompt is made."""
    chat: Chat = []
    media: list[tuple[str, Path]] = []
    for message in request.messages:
        content: list[dict[str, str]] = []
        for part in message.parts:
            if isinstance(part, Upload):
                path = folder / str(len(media))
                path.write_bytes(part.data)
                _check(path, part.modality, options)
                media.append((part.modality, path))
                content.append({"type": part.modality, "path": str(path)})
            else:
                content.append({"type": "text", "text": part})
        chat.append({"role": message.role, "content": content})
    return chat, media


def _check(path: Path, modality: str, options: ServingOptions) -> None:
    """Refuse a medium in words that name its place in the request, not a folder of ours."""
    try:
        check_media(path, modality, options.extent)
    except MediaError as error:
        number = int(path.name) + 1
        raise MediaError(str(error).replace(str(path), f"medium {number}")) from error


def _encode(replier: Replier, chat: Chat) -> BatchFeature:
    """Model inputs; control tokens that a client merely writes stay words."""
    for message in chat:
        for item in cast(list[dict[str, str]], message["content"]):
            if item["type"] not in ("text", *replier.processor.modalities):
                raise ModelInputError(
                    f"the request holds {item['type']}, but this model has encoders for "
                    f"{', '.join(replier.processor.modalities)} only."
                )
    try:
        return replier.processor.apply_chat_template(
            chat,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            sanitize_control_tokens=_has_control_tokens(replier, chat),
        )
    except NotImplementedError as error:
        raise RequestError(
            "a text holds a special token of this model, which cannot be taken as words here. "
            "Reword it."
        ) from error


def _has_control_tokens(replier: Replier, chat: Chat) -> bool:
    tokens = replier.processor.tokenizer.get_added_vocab()
    texts = [
        item["text"]
        for message in chat
        for item in cast(list[dict[str, str]], message["content"])
        if item["type"] == "text"
    ]
    return any(token in text for token in tokens for text in texts)


def _shown(replier: Replier, modality: str, path: Path) -> Shown:
    entry = replier.processor.modalities[modality]
    prepared = replier.processor.prepare_media(modality, [path], {})[0]
    return Shown(
        modality=modality,
        encoder=str(entry["encoder"]["type"]),
        connector=str(entry["connector"]["type"]),
        stream=modality if entry.get("stream") else "text",
        tokens=prepared.text.count(str(entry["token"])),
    )


def _check_length(replier: Replier, prompt_tokens: int, request: ChatRequest) -> None:
    longest = getattr(replier.model.config.text_config, "max_position_embeddings", None)
    if longest is not None and prompt_tokens + request.new_tokens > longest:
        raise RequestError(
            f"the dialogue takes {prompt_tokens} tokens and the answer up to "
            f"{request.new_tokens}, but the model reads {longest}. Ask for less."
        )


def _sampling(request: ChatRequest) -> dict[str, object]:
    options: dict[str, object] = {"max_new_tokens": request.new_tokens}
    if request.temperature == 0:
        return options | {"do_sample": False}
    sampled = {"do_sample": True, "temperature": request.temperature, "top_p": request.top_p}
    return options | sampled


@contextmanager
def _seeded(seed: int | None) -> Iterator[None]:
    """The client's own random numbers, without touching anybody else's."""
    with torch.random.fork_rng(devices=[]):
        if seed is not None:
            torch.manual_seed(seed)
        yield
