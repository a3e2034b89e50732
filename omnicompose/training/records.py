"""Chats to learn from, one JSON object a line; every mistake is found before training starts.

{"id": "optional", "messages": [
    {"role": "user", "content": [{"type": "image", "path": "media/7.png"},
                                 {"type": "text", "text": "What is this?"}]},
    {"role": "assistant", "content": "A seven."}]}
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from omnicompose.errors import MediaError, TrainingError
from omnicompose.media import check_media
from omnicompose.modalities import MODALITIES

ROLES = ("system", "user", "assistant")
KEYS = ("id", "messages")
MAX_SHOWN = 50
Message = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One chat.

    Attributes:
        where: its file and line, for messages.
        messages: as a chat template takes them; media items hold their type alone.
        media: modality and file of every medium, in reading order.
    """

    where: str
    messages: tuple[Message, ...]
    media: tuple[tuple[str, Path], ...]


def read_records(files: Sequence[Path], modalities: Collection[str]) -> list[Record]:
    """The records of JSONL files, in their order; media paths start from their file's folder.

    Args:
        files: JSONL; empty lines are skipped.
        modalities: what the model understands beside text.

    Raises:
        TrainingError: one error that lists the mistakes as `file:line: field: message`.
    """
    records: list[Record] = []
    problems: list[str] = []
    for file in files:
        for number, line in enumerate(_lines(file), start=1):
            if line.strip():
                where = f"{file}:{number}"
                content, found = _check_line(line, file.parent, modalities)
                problems += [f"{where}: {problem}" for problem in found]
                if not found:
                    records.append(_record(where, content, file.parent))
    refuse(problems)
    if not records:
        raise TrainingError(f"{', '.join(map(str, files))}: found no records to learn from.")
    return records


def refuse(problems: Sequence[str]) -> None:
    """Raise all problems as one error; nothing if there are none.

    Raises:
        TrainingError: there are some.
    """
    if problems:
        more = len(problems) - MAX_SHOWN
        rest = [f"and {more} more mistakes."] if more > 0 else []
        raise TrainingError("\n".join([*problems[:MAX_SHOWN], *rest]))


def _lines(file: Path) -> Iterator[str]:
    try:
        with file.open(encoding="utf-8") as stream:
            yield from stream
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(f"{file}: cannot be read as UTF-8 text ({error}).") from error


def _check_line(
    line: str, folder: Path, modalities: Collection[str]
) -> tuple[Mapping[str, object], list[str]]:
    """The object in a line, and every mistake in it."""
    try:
        content = json.loads(line)
    except json.JSONDecodeError as error:
        return {}, [f"not JSON: {error.msg} at column {error.colno}."]
    if not isinstance(content, dict):
        return {}, [f"found {_kind(content)}, expected an object with `messages`."]
    unknown = [
        f"unknown key {key!r}; known keys: {', '.join(KEYS)}." for key in content if key not in KEYS
    ]
    messages = content.get("messages")
    if not isinstance(messages, list) or not messages:
        return content, [
            *unknown,
            f"messages: found {_kind(messages)}, expected a list of messages.",
        ]
    problems = [
        f"messages.{place}{problem}"
        for place, message in enumerate(messages)
        for problem in _message_problems(message, folder, modalities)
    ]
    return content, [*unknown, *problems, *_turn_problems(messages)]


def _turn_problems(messages: Sequence[object]) -> Iterator[str]:
    roles = [message.get("role") for message in messages if isinstance(message, dict)]
    if "assistant" not in roles:
        yield "messages: no assistant turn, so there is nothing to learn. Add the reply."
    elif roles[-1] != "assistant":
        yield f"messages: the last turn is of {roles[-1]!r}, expected the assistant's. Cut it off."


def _message_problems(message: object, folder: Path, modalities: Collection[str]) -> Iterator[str]:
    if not isinstance(message, dict):
        yield f": found {_kind(message)}, expected an object with `role` and `content`."
        return
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        yield f".role: found {role!r}, expected one of {', '.join(ROLES)}."
    for key in message.keys() - {"role", "content"}:
        yield f": unknown key {key!r}; known keys: role, content."
    if isinstance(content, str):
        if not content.strip():
            yield ".content: found no words. Say something."
        else:
            yield from (f".content: {problem}" for problem in _text_problems(content))
    elif not isinstance(content, list) or not content:
        yield f".content: found {_kind(content)}, expected text or a list of items."
    else:
        for place, item in enumerate(content):
            for problem in _item_problems(item, str(role), folder, modalities):
                yield f".content.{place}{problem}"


def _item_problems(
    item: object, role: str, folder: Path, modalities: Collection[str]
) -> Iterator[str]:
    if not isinstance(item, dict):
        yield f": found {_kind(item)}, expected an object with `type`."
        return
    kind = item.get("type")
    if kind == "text":
        text = item.get("text")
        if not isinstance(text, str) or not text.strip():
            yield f".text: found {text!r}, expected words."
        else:
            yield from (f".text: {problem}" for problem in _text_problems(text))
    elif kind not in modalities:
        yield f".type: found {kind!r}, but this model takes {', '.join(('text', *modalities))}."
    elif role == "assistant":
        yield f".type: found {kind!r}, but an assistant says words only."
    else:
        yield from _path_problems(item.get("path"), str(kind), folder)


def _text_problems(text: str) -> Iterator[str]:
    for modality in MODALITIES.values():
        if modality.placeholder in text:
            yield (
                f"found {modality.placeholder!r} in the words, which stands for a medium. Write an "
                'item {"type": ..., "path": ...} instead.'
            )


def _path_problems(path: object, kind: str, folder: Path) -> Iterator[str]:
    if not isinstance(path, str) or not path:
        yield f".path: found {path!r}, expected the path of the {kind}."
        return
    problem = _media_problem(folder / path, kind)
    if problem:
        yield f".path: {problem}"


@cache
def _media_problem(path: Path, kind: str) -> str | None:
    try:
        check_media(path, kind)
    except MediaError as error:
        return str(error)
    return None


def _record(where: str, content: Mapping[str, object], folder: Path) -> Record:
    media: list[tuple[str, Path]] = []
    messages: list[Message] = []
    given = content["messages"]
    assert isinstance(given, list)
    for message in given:
        items = message["content"]
        if isinstance(items, list):
            media += [(i["type"], folder / i["path"]) for i in items if i["type"] != "text"]
            items = [i if i["type"] == "text" else {"type": i["type"]} for i in items]
        messages.append({"role": message["role"], "content": items})
    return Record(where=where, messages=tuple(messages), media=tuple(media))


def _kind(value: object) -> str:
    return "nothing" if value is None else f"{type(value).__name__} {str(value)[:40]!r}"
