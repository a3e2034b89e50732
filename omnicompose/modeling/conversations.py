"""What a chat holds: its media in reading order, and texts that look like placeholders."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence

from omnicompose.errors import ModelInputError
from omnicompose.modalities import MODALITIES
from omnicompose.streams import TEXT

# transformers writes this character before a placeholder that a user's own text contains.
ESCAPE = "\U000f0000"
Message = Mapping[str, object]
Conversation = Sequence[Message]


def media_of(conversation: Conversation, known: Collection[str]) -> dict[str, list[object]]:
    """The media of a chat by modality, in reading order.

    Args:
        conversation: messages whose content is a text or a list of items such as
            `{"type": "image", "path": ...}` and `{"type": "text", "text": ...}`.
        known: modalities that the model has.

    Raises:
        ModelInputError: a modality that the model lacks, an item without its medium, or a text
            without words.
    """
    media: dict[str, list[object]] = {name: [] for name in MODALITIES}
    for place, item in _items(conversation):
        kind = str(item.get("type"))
        if kind == TEXT:
            if not str(item.get("text", "")).strip():
                raise ModelInputError(
                    f"message {place}: found a text without words. Ask something."
                )
        elif kind not in known:
            raise ModelInputError(
                f"message {place}: found {kind!r}, but this model has encoders for "
                f"{', '.join(known) or 'no modality'} only. Leave it out or load another composite."
            )
        else:
            media[kind].append(_medium(item, kind, place))
    return media


def placeholders_in_text(conversation: Conversation, placeholders: Collection[str]) -> list[str]:
    """Placeholders that the texts of a chat contain: words of the user, no media."""
    texts = [str(item.get("text", "")) for _, item in _items(conversation)]
    texts += [str(message["content"]) for message in conversation if _is_plain(message)]
    return [token for token in placeholders if any(token in text for text in texts)]


def expand_text(
    text: str, pattern: str, written: Mapping[str, Iterator[str]]
) -> tuple[str, list[dict[str, object]]]:
    """A text with each placeholder replaced by what is written for its medium.

    Args:
        text: with one placeholder per medium.
        pattern: regular expression of all placeholders.
        written: by placeholder, what stands for its media to come.

    Returns:
        The text, and where placeholders were and are, in the form that transformers uses.
    """
    parts: list[str] = []
    offsets: list[dict[str, object]] = []
    end = shift = 0
    for match in re.finditer(pattern, text):
        token = match.group()
        replacement = next(written[token])
        start = match.start() + shift
        offsets.append(
            {
                "span": match.span(),
                "new_span": (start, start + len(replacement)),
                "text": token,
                "replacement": replacement,
            }
        )
        parts += [text[end : match.start()], replacement]
        end, shift = match.end(), shift + len(replacement) - len(token)
    return "".join([*parts, text[end:]]), offsets


def _items(conversation: Conversation) -> Iterator[tuple[int, Mapping[str, object]]]:
    for place, message in enumerate(conversation):
        content = message.get("content")
        if isinstance(content, list | tuple):
            yield from ((place, item) for item in content)


def _is_plain(message: Message) -> bool:
    return isinstance(message.get("content"), str)


def _medium(item: Mapping[str, object], kind: str, place: int) -> object:
    found = [item[key] for key in (kind, "path", "url") if item.get(key) is not None]
    if len(found) != 1:
        raise ModelInputError(
            f"message {place}: a content item of type {kind!r} names {len(found)} media, expected "
            f'one under "path", or under "{kind}" if it is in memory. Add it.'
        )
    return found[0]
