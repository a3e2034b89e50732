"""The zoo's questions as ordinary English, and as chat messages for a processor."""

import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from omnicompose.errors import EvaluationError
from omnicompose.zoo.options import draw
from omnicompose.zoo.words import NOUNS, NUMBER_PROPERTIES, caption, slot_noun
from omnicompose.zoo.world import MODALITY_SLOTS, NUMBERS, SLOTS, Item, sample_item

Kind = Literal["mcub", "true", "open", "yesno", "describe"]
StandIn = Literal["none", "captions"]
Message = dict[str, str | list[dict[str, str]]]

LETTERS = "ABCD"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question about one to three items.

    Attributes:
        id: unique among all questions that can be made, and the same on every machine.
        kind: mcub (what do these have in common), true (which is true of this), open (what is
            its colour), yesno, or describe.
        items: what is shown, in the order shown.
        text: the question as a user would type it, options included.
        options: the candidate answers; empty for describe. Of mcub and true they carry letters.
        answer_index: the right one among `options`; None for describe.
        answer_text: the right answer in words (of mcub and true: the phrase, not its letter).
    """

    id: str
    kind: Kind
    items: tuple[Item, ...]
    text: str
    options: tuple[str, ...]
    answer_index: int | None
    answer_text: str

    @property
    def answer_letter(self) -> str | None:
        """The letter to answer with, or None where the options carry no letters."""
        if self.kind not in ("mcub", "true") or self.answer_index is None:
            return None
        return LETTERS[self.answer_index]

    @property
    def reply(self) -> str:
        """What a perfect model says: the answer in words, its letter behind it if it has one.

        Words first: a model this small learns to name the right phrase within a few hundred steps,
        while the letter alone is still at chance. Every option begins with a word of its own, so
        the first token of the reply decides.
        """
        return spoken_answer(self.answer_text, self.answer_letter)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Draft:
    """A question before it has an identity; the fields are those of `Question`."""

    items: tuple[Item, ...]
    text: str
    options: tuple[str, ...] = ()
    answer_index: int | None = None
    answer_text: str = ""


def make_questions(
    kind: Kind, modalities: tuple[str, ...], count: int, seed: int
) -> tuple[Question, ...]:
    """Make `count` questions of one kind; the first n of them do not depend on `count`.

    Args:
        kind: what is asked.
        modalities: of the items: two or more for mcub (repeats allowed; the order of the items
            is drawn), exactly one otherwise.
        count: number of questions.
        seed: another seed gives other questions.

    Raises:
        EvaluationError: an unknown kind or modality, or a number of modalities that the kind
            cannot ask about.
    """
    _check(kind, modalities)
    names = "+".join(modalities)
    key = zlib.crc32(f"{kind} {names}".encode())
    return tuple(
        make_question(
            kind,
            modalities,
            np.random.default_rng((seed, key, index)),
            f"{kind}-{names}-{seed}-{index}",
        )
        for index in range(count)
    )


def make_question(
    kind: Kind, modalities: tuple[str, ...], rng: np.random.Generator, question_id: str
) -> Question:
    """Make one question with the given generator; see `make_questions`."""
    draft = _MAKERS[kind](rng, modalities)
    return Question(
        id=question_id,
        kind=kind,
        items=draft.items,
        text=draft.text,
        options=draft.options,
        answer_index=draft.answer_index,
        answer_text=draft.answer_text or draft.options[draft.answer_index or 0],
    )


def render_messages(
    question: Question, shown: Iterable[str] = tuple(MODALITY_SLOTS), stand_in: StandIn = "none"
) -> list[Message]:
    """The question as a chat: one user turn of typed content, media first, then the text.

    Args:
        question: what to ask.
        shown: modalities whose items appear as media, in the order of `question.items`.
        stand_in: what the other items become: "none" leaves them out, "captions" puts the
            sentence that describes them in their place (nothing shown: the caption oracle).

    Returns:
        Messages for `processor.apply_chat_template`; media entries hold only their type.
    """
    shown_modalities = frozenset(shown)
    content: list[dict[str, str]] = []
    for item in question.items:
        if item.modality in shown_modalities:
            content.append({"type": item.modality})
        elif stand_in == "captions":
            content.append({"type": "text", "text": caption_line(item)})
    return [{"role": "user", "content": [*content, {"type": "text", "text": question.text}]}]


def caption_line(item: Item, style: int = 0) -> str:
    """The text that stands in for a medium: framed as the chat template frames the medium."""
    return f"{NOUNS[item.modality]}: {caption(item, style)}\n"


def common_text(options: tuple[str, ...]) -> str:
    """The words of an mcub question."""
    return f"What do these have in common?\n{lettered(options)}"


def true_text(modality: str, options: tuple[str, ...]) -> str:
    """The words of a *which is true* question."""
    return f"Which is true of the {NOUNS[modality]}?\n{lettered(options)}"


def open_text(modality: str, slot: str) -> str:
    """The words of an open question about one slot."""
    return f"What is the {slot_noun(modality, slot)} in the {NOUNS[modality]}?"


def yesno_text(modality: str, phrase: str) -> str:
    """The words of a yes/no question about one number property."""
    return f"Is this true of the {NOUNS[modality]}: {phrase}?"


def describe_text(modality: str) -> str:
    """The request for a caption."""
    return f"Describe the {NOUNS[modality]}."


def spoken_answer(phrase: str, letter: str | None) -> str:
    """The reply that names a phrase: exactly as the option stands in the question."""
    return f"{phrase} ({letter})" if letter else phrase


def lettered(options: tuple[str, ...]) -> str:
    """The options one a line, each before its letter.

    The letter stands behind the phrase: a token can look back at what it labels, not ahead.
    """
    return "\n".join(spoken_answer(o, letter) for o, letter in zip(options, LETTERS, strict=True))


def ask_common(rng: np.random.Generator, modalities: tuple[str, ...]) -> _Draft:
    """What do these have in common: the items in random order, built backwards."""
    drawn = draw(rng, tuple(modalities[i] for i in rng.permutation(len(modalities))))
    return _Draft(
        items=drawn.items,
        text=common_text(drawn.options),
        options=drawn.options,
        answer_index=drawn.answer_index,
    )


def ask_true(rng: np.random.Generator, modalities: tuple[str, ...]) -> _Draft:
    """Which is true of this one thing, built backwards."""
    drawn = draw(rng, modalities)
    return _Draft(
        items=drawn.items,
        text=true_text(modalities[0], drawn.options),
        options=drawn.options,
        answer_index=drawn.answer_index,
    )


def ask_open(rng: np.random.Generator, modalities: tuple[str, ...]) -> _Draft:
    """What is the value of one slot; the options are all its words, not part of the text."""
    item = sample_item(rng, modalities[0])
    slot = MODALITY_SLOTS[item.modality][int(rng.integers(len(item.values)))]
    return _Draft(
        items=(item,),
        text=open_text(item.modality, slot),
        options=SLOTS[slot],
        answer_index=item[slot],
    )


def ask_yesno(rng: np.random.Generator, modalities: tuple[str, ...]) -> _Draft:
    """Is a number property true; yes and no are equally likely for every property."""
    item = sample_item(rng, modalities[0])
    phrase = tuple(NUMBER_PROPERTIES)[int(rng.integers(len(NUMBER_PROPERTIES)))]
    yes = bool(rng.integers(2))
    numbers = [n for n in range(len(NUMBERS)) if (n in NUMBER_PROPERTIES[phrase]) == yes]
    number = numbers[int(rng.integers(len(numbers)))]
    values = tuple((slot, number if slot == "number" else v) for slot, v in item.values)
    return _Draft(
        items=(Item(item.modality, values),),
        text=yesno_text(item.modality, phrase),
        options=("yes", "no"),
        answer_index=0 if yes else 1,
    )


def ask_describe(rng: np.random.Generator, modalities: tuple[str, ...]) -> _Draft:
    """Describe this one thing."""
    item = sample_item(rng, modalities[0])
    return _Draft(items=(item,), text=describe_text(item.modality), answer_text=caption(item))


_MAKERS: dict[Kind, Callable[[np.random.Generator, tuple[str, ...]], _Draft]] = {
    "mcub": ask_common,
    "true": ask_true,
    "open": ask_open,
    "yesno": ask_yesno,
    "describe": ask_describe,
}


def _check(kind: str, modalities: tuple[str, ...]) -> None:
    """Refuse what cannot be asked, naming what could be."""
    if kind not in _MAKERS:
        raise EvaluationError(f"question kind {kind!r} is unknown: choose one of {list(_MAKERS)}.")
    unknown = [m for m in modalities if m not in MODALITY_SLOTS]
    if unknown:
        raise EvaluationError(
            f"{kind} questions: the zoo has no modality {unknown[0]!r}; "
            f"choose from {list(MODALITY_SLOTS)}."
        )
    if (len(modalities) == 1) == (kind == "mcub") or not 1 <= len(modalities) <= 3:
        expected = "two or three modalities" if kind == "mcub" else "exactly one modality"
        raise EvaluationError(
            f"{kind} questions: found {len(modalities)} modalities, expected {expected}."
        )
