"""A chat completion request, read strictly: its messages, its media in memory, its sampling.

Media come inside the request alone. A part that names a path or an address is refused, so no text
of a client ever decides which file or host is opened.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from omnicompose.errors import RequestError
from omnicompose.serving.limits import ServingOptions

Json = Mapping[str, object]
DATA_URL = re.compile(r"data:[\w.+-]+/[\w.+-]+(?:;[\w-]+=[\w.+-]+)*;base64,", re.ASCII)
URL_PARTS = {"image_url": "image", "video_url": "video", "audio_url": "audio"}
ROLES = ("system", "user", "assistant")


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A medium of a request.

    Attributes:
        modality: what it was given as.
        data: the file's bytes.
    """

    modality: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message.

    Attributes:
        role: who speaks.
        parts: texts and media in order.
    """

    role: str
    parts: tuple[str | Upload, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """What was asked for.

    Attributes:
        messages: the dialogue.
        new_tokens: longest answer.
        temperature: 0 for the likeliest token each time.
        top_p: share of probability that is sampled from.
        seed: of sampling; None: chosen anew.
        stop: texts that end the answer.
        stream: whether the answer is sent as it is made.
        usage: whether a stream ends with token counts.
    """

    messages: tuple[Message, ...]
    new_tokens: int
    temperature: float
    top_p: float
    seed: int | None
    stop: tuple[str, ...]
    stream: bool
    usage: bool


def read_request(body: object, options: ServingOptions) -> ChatRequest:
    """Read the body of a request.

    Raises:
        RequestError: it is malformed, too large, or asks for what is not offered.
    """
    if not isinstance(body, dict):
        raise RequestError("the body: expected a JSON object.")
    found = body.get("messages")
    if not isinstance(found, list) or not found:
        raise RequestError("messages: expected a list of at least one message.")
    messages = tuple(_message(one, place, options) for place, one in enumerate(found))
    _check_sizes(messages, options)
    if body.get("n", 1) != 1:
        raise RequestError("n: this server gives one answer.")
    if body.get("tools"):
        raise RequestError("tools: this server offers none.")
    asked = body.get("max_completion_tokens") or body.get("max_tokens")
    stream_options = body.get("stream_options")
    return ChatRequest(
        messages=messages,
        new_tokens=int(_number(asked, "max_tokens", (1, options.new_tokens), 256)),
        temperature=_number(body.get("temperature"), "temperature", (0, 2), 0),
        top_p=_number(body.get("top_p"), "top_p", (0, 1), 1) or 1.0,
        seed=None
        if body.get("seed") is None
        else int(_number(body.get("seed"), "seed", (0, 2**63 - 1), 0)),
        stop=_stop(body.get("stop")),
        stream=body.get("stream") is True,
        usage=isinstance(stream_options, dict) and stream_options.get("include_usage") is True,
    )


def _message(found: object, place: int, options: ServingOptions) -> Message:
    where = f"messages[{place}]"
    if not isinstance(found, dict) or found.get("role") not in ROLES:
        raise RequestError(f"{where}: expected an object with a role among {', '.join(ROLES)}.")
    content = found.get("content")
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if not isinstance(parts, list) or not parts:
        raise RequestError(f"{where}.content: expected a text or a list of parts.")
    read = [_part(part, f"{where}.content[{n}]", options) for n, part in enumerate(parts)]
    if found["role"] != "user" and any(isinstance(part, Upload) for part in read):
        raise RequestError(f"{where}: media belong to the user's messages.")
    return Message(role=str(found["role"]), parts=tuple(read))


def _part(part: object, where: str, options: ServingOptions) -> str | Upload:
    kind = part.get("type") if isinstance(part, dict) else None
    value = part.get(str(kind)) if isinstance(part, dict) else None
    if kind == "text" and isinstance(value, str):
        return value
    if kind in URL_PARTS and isinstance(value, dict):
        return _upload(URL_PARTS[str(kind)], _inside(value.get("url"), where), where, options)
    if kind == "input_audio" and isinstance(value, dict) and isinstance(value.get("data"), str):
        return _upload("audio", cast(str, value["data"]), where, options)
    raise RequestError(
        f"{where}: expected a part of type text, image_url, input_audio or video_url with its "
        f"content, found type {str(kind)[:40]!r}."
    )


def _inside(url: object, where: str) -> str:
    """What a data URL holds, still encoded."""
    found = DATA_URL.match(url) if isinstance(url, str) else None
    if found is None or not isinstance(url, str):
        raise RequestError(
            f"{where}: expected the medium inside the request (data:...;base64,...). "
            "Paths and addresses are not opened."
        )
    return url[found.end() :]


def _upload(modality: str, encoded: str, where: str, options: ServingOptions) -> Upload:
    if len(encoded) * 3 // 4 > options.media_bytes + 3:
        raise RequestError(f"{where}: a medium may have {options.media_bytes:,} bytes at most.")
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RequestError(f"{where}: not base64 ({error}).") from error
    if not data:
        raise RequestError(f"{where}: the medium is empty.")
    return Upload(modality=modality, data=data)


def _check_sizes(messages: tuple[Message, ...], options: ServingOptions) -> None:
    parts = [part for message in messages for part in message.parts]
    texts = sum(len(part) for part in parts if isinstance(part, str))
    media = sum(1 for part in parts if isinstance(part, Upload))
    if texts > options.text_characters:
        raise RequestError(
            f"messages: found {texts:,} characters, expected {options.text_characters:,} at most."
        )
    if media > options.media_items:
        raise RequestError(
            f"messages: found {media} media, expected {options.media_items} at most."
        )


def _number(value: object, name: str, allowed: tuple[float, float], default: float) -> float:
    if value is None:
        return default
    low, high = allowed
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not low <= cast(float, value) <= high:
        raise RequestError(f"{name}: found {str(value)[:40]}, expected {low:g} to {high:g}.")
    return cast(float, value)


def _stop(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(one, str) and one for one in texts):
        raise RequestError("stop: expected a text or a list of texts.")
    if len(texts) > 4 or any(len(one) > 200 for one in texts):
        raise RequestError("stop: expected at most 4 texts of at most 200 characters.")
    return tuple(texts)
