"""Chats to learn from: what the base reads as text, and what an expert sees, hears or watches.

The first question of every lesson is built backwards like the scored ones; further questions about
the same items follow in the same chat, because reading the items again is what costs.
"""

from dataclasses import dataclass

import numpy as np

from omnicompose.zoo.questions import (
    LETTERS,
    Message,
    caption_line,
    common_text,
    describe_text,
    make_question,
    open_text,
    spoken_answer,
    true_text,
    yesno_text,
)
from omnicompose.zoo.words import CAPTIONS, NUMBER_PROPERTIES, caption, facts, is_true, phrases
from omnicompose.zoo.world import MODALITY_SLOTS, SLOTS, Item

MODALITIES = tuple(MODALITY_SLOTS)
Turn = tuple[str, str]
"""A question and its reply."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """One chat, and the items that appear in it as media.

    Attributes:
        messages: user and assistant turns in the form of a chat template.
        media: the items behind the media entries of `messages`, in their order.
    """

    messages: tuple[Message, ...]
    media: tuple[Item, ...]


def text_lesson(rng: np.random.Generator, num_items: int) -> Lesson:
    """One to three items told as captions, and questions about them."""
    if rng.random() < 0.6:
        modalities = tuple(MODALITIES[i] for i in rng.permutation(len(MODALITIES))[:num_items])
    else:
        modalities = tuple(MODALITIES[i] for i in rng.integers(len(MODALITIES), size=num_items))
    return _lesson(rng, modalities, shown=None)


def media_lesson(rng: np.random.Generator, modality: str, mixed: float) -> Lesson:
    """One medium, and with probability `mixed` one or two items more that are told as text."""
    if rng.random() >= mixed:
        return _lesson(rng, (modality,), shown=0)
    others = rng.integers(len(MODALITIES), size=int(rng.choice((1, 1, 2))))
    return _lesson(rng, (modality, *(MODALITIES[i] for i in others)), shown=0)


def caption_lesson(rng: np.random.Generator, modality: str) -> Lesson:
    """One medium and the request to describe it."""
    item = make_question("describe", (modality,), rng, "").items[0]
    return _chat(rng, (item,), (item,), [(describe_text(modality), caption(item))])


def _lesson(rng: np.random.Generator, modalities: tuple[str, ...], shown: int | None) -> Lesson:
    """Questions about items, of which the first of `modalities[shown]` is a medium."""
    question = make_question("mcub" if len(modalities) > 1 else "true", modalities, rng, "")
    turns = [(question.text, question.reply), *_further(rng, question.items)]
    own = (
        ()
        if shown is None
        else tuple(i for i in question.items if i.modality == modalities[shown])[:1]
    )
    return _chat(rng, question.items, own, turns)


def _further(rng: np.random.Generator, items: tuple[Item, ...]) -> list[Turn]:
    """Further questions about items already drawn; those with options teach the most."""
    if len(items) == 1:
        return [
            *(_true(rng, items[0]) for _ in range(2)),
            *(_short(rng, items[0]) for _ in range(2)),
        ]
    names = [item.modality for item in items]
    single = [item for item in items if names.count(item.modality) == 1]
    turns = [turn for turn in (_common(rng, items), _common(rng, items)) if turn]
    if single:
        item = single[int(rng.integers(len(single)))]
        turns.append(_true(rng, item) if rng.random() < 0.5 else _short(rng, item))
    return turns


def _short(rng: np.random.Generator, item: Item) -> Turn:
    """A question about one item whose options need not be read out."""
    choice = rng.random()
    if choice < 0.4:
        slot = MODALITY_SLOTS[item.modality][int(rng.integers(len(item.values)))]
        return open_text(item.modality, slot), item.word(slot)
    if choice < 0.9:
        phrase = tuple(NUMBER_PROPERTIES)[int(rng.integers(len(NUMBER_PROPERTIES)))]
        return yesno_text(item.modality, phrase), "yes" if is_true(phrase, item) else "no"
    return describe_text(item.modality), caption(item)


def _true(rng: np.random.Generator, item: Item) -> Turn:
    """One phrase that is true of `item` among three that are not."""
    spoken = [p for slot in MODALITY_SLOTS[item.modality] for p in facts(slot)]
    options, reply = _choice(
        rng,
        right=[p for p in spoken if is_true(p, item)],
        wrong=[p for p in spoken if not is_true(p, item)],
    )
    return true_text(item.modality, options), reply


def _common(rng: np.random.Generator, items: tuple[Item, ...]) -> Turn | None:
    """One phrase that is true of all items among three that are not; None if nothing is shared."""
    spoken = [p for slot in SLOTS for p in phrases(slot, len(items))]
    held = {p: sum(is_true(p, item) for item in items) for p in spoken}
    right = [p for p in spoken if held[p] == len(items)]
    tempting = [p for p in spoken if 0 < held[p] < len(items)]
    if not right or len(tempting) < len(LETTERS) - 1:
        return None
    options, reply = _choice(rng, right, tempting)
    return common_text(options), reply


def _choice(
    rng: np.random.Generator, right: list[str], wrong: list[str]
) -> tuple[tuple[str, ...], str]:
    """Four options in random order, and the reply that names the right one."""
    answer = right[int(rng.integers(len(right)))]
    others = [wrong[i] for i in rng.permutation(len(wrong))[: len(LETTERS) - 1]]
    place = int(rng.integers(len(LETTERS)))
    return (*others[:place], answer, *others[place:]), spoken_answer(answer, LETTERS[place])


def _chat(
    rng: np.random.Generator,
    items: tuple[Item, ...],
    media: tuple[Item, ...],
    turns: list[Turn],
) -> Lesson:
    """The items as media or as captions of a random style, then the turns."""
    content: list[dict[str, str]] = []
    shown = list(media)
    for item in items:
        if shown and item is shown[0]:
            content.append({"type": shown.pop(0).modality})
        else:
            style = int(rng.integers(len(CAPTIONS[item.modality])))
            content.append({"type": "text", "text": caption_line(item, style)})
    messages: list[Message] = []
    for place, (text, reply) in enumerate(turns):
        entry = {"type": "text", "text": text}
        messages.append({"role": "user", "content": [*content, entry] if place == 0 else [entry]})
        messages.append({"role": "assistant", "content": reply})
    return Lesson(messages=tuple(messages), media=media)
