"""Chats to learn from, one JSON object a line; every mistake is found before training starts.

{"id": "optional", "messages": [
    {"role": "user", "content": [{"type": "image", "path": "media/7.png"},
                                 {"type": "text", "text": "What is this?"}]},
    {"role": "assistant", "content": "A seven."}]}
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from omnicompose.errors import MediaError, TrainingError
from omnicompose.media import check_media
from omnicompose.modalities import MODALITIES

ROLES = ("system", "user", "assistant")
KEYS = ("id", "messages")
MAX_SHOWN = 50
Message = Mapping[str, object]
Looks = dict[tuple[Path, str], str | None]
"""What was found wrong with media that were looked at: many records may show one."""


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
    looks: Looks = {}
    for file in files:
        checker = _Checker(file.parent, modalities, looks)
        for number, line in enumerate(_lines(file), start=1):
            if line.strip():
                where = f"{file}:{number}"
                content, found = checker.check(line)
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


@dataclass(frozen=True, slots=True)
class _Checker:
    """Finds the mistakes in the lines of one file.

    Attributes:
        folder: where paths of media start.
        modalities: what the model understands beside text.
        looks: the files looked at so far.
    """

    folder: Path
    modalities: Collection[str]
    looks: Looks

    def check(self, line: str) -> tuple[Mapping[str, object], list[str]]:
        """The object in a line, and every mistake in it."""
        try:
            content = json.loads(line.rstrip())
        except json.JSONDecodeError as error:
            return {}, [f"not JSON: {error.msg} at column {error.colno}."]
        except RecursionError:
            return {}, ["not JSON that can be read: it is nested too deep."]
        if not isinstance(content, dict):
            return {}, [f"found {_kind(content)}, expected an object with `messages`."]
        return content, list(self._problems(content))

    def _problems(self, content: Mapping[str, object]) -> Iterator[str]:
        for key in content.keys() - set(KEYS):
            yield f"unknown key {key!r}; known keys: {', '.join(KEYS)}."
        messages = content.get("messages")
        if not isinstance(messages, list) or not messages:
            yield f"messages: found {_kind(messages)}, expected a list of messages."
            return
        for place, message in enumerate(messages):
            for problem in self._in_message(message):
                yield f"messages.{place}{problem}"
        yield from _in_turns(messages)

    def _in_message(self, message: object) -> Iterator[str]:
        if not isinstance(message, dict):
            yield f": found {_kind(message)}, expected an object with `role` and `content`."
            return
        role, content = message.get("role"), message.get("content")
        if role not in ROLES:
            yield f".role: found {role!r}, expected one of {', '.join(ROLES)}."
        for key in message.keys() - {"role", "content"}:
            yield f": unknown key {key!r}; known keys: role, content."
        if isinstance(content, str):
            yield from (f".content: {problem}" for problem in _in_words(content))
        elif not isinstance(content, list) or not content:
            yield f".content: found {_kind(content)}, expected text or a list of items."
        else:
            for place, item in enumerate(content):
                for problem in self._in_item(item, str(role)):
                    yield f".content.{place}{problem}"

    def _in_item(self, item: object, role: str) -> Iterator[str]:
        if not isinstance(item, dict):
            yield f": found {_kind(item)}, expected an object with `type`."
            return
        kind = item.get("type")
        if kind == "text":
            yield from (f".text: {problem}" for problem in _in_words(item.get("text")))
        elif kind not in self.modalities:
            known = ", ".join(("text", *self.modalities))
            yield f".type: found {kind!r}, but this model takes {known}."
        elif role == "assistant":
            yield f".type: found {kind!r}, but an assistant says words only."
        elif problem := self._of_medium(item.get("path"), str(kind)):
            yield f".path: {problem}"

    def _of_medium(self, given: object, kind: str) -> str | None:
        if not isinstance(given, str) or not given:
            return f"found {given!r}, expected the path of the {kind}."
        look = (self.folder / given, kind)
        if look not in self.looks:
            self.looks[look] = _media_problem(*look)
        return self.looks[look]


def _in_turns(messages: Sequence[object]) -> Iterator[str]:
    roles = [message.get("role") for message in messages if isinstance(message, dict)]
    if "assistant" not in roles:
        yield "messages: no assistant turn, so there is nothing to learn. Add the reply."
    elif roles[-1] != "assistant":
        yield f"messages: the last turn is of {roles[-1]!r}, expected the assistant's. Cut it off."


def _in_words(text: object) -> Iterator[str]:
    if not isinstance(text, str) or not text.strip():
        yield f"found {text!r}, expected words."
        return
    for modality in MODALITIES.values():
        if modality.placeholder in text:
            yield (
                f"found {modality.placeholder!r} in the words, which stands for a medium. Write an "
                'item {"type": ..., "path": ...} instead.'
            )


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
