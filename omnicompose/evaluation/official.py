"""Each benchmark's own way to read a generated reply, beside ours; known flaws included.

Published numbers were made with these, so they are what a number of a paper is compared with. Where
the authors' program guesses at what it cannot read (at random, or `A`), this leaves it unread: a
guess is no score.
"""

import re
from collections.abc import Callable, Sequence

from omnicompose.evaluation.sample import LETTERS

Reader = Callable[[str, tuple[str, ...], str], str | None]
"""Reply, options and label of the right one to the label chosen; None if it cannot be read."""

MARKS = ",.!?;:'"
FEW_WORDS = 5
MANY_WORDS = 10
PREFIXES = (
    "The best answer is",
    "The correct answer is",
    "The answer is",
    "The answer",
    "The best option isThe correct option is",  # two strings without a comma between them
    "Best answer:Best option:",
)


def first_character(reply: str, choices: tuple[str, ...], target: str = "") -> str | None:
    """MCUB and AVQA: the reply's first character as it stands, so `Answer: C` is an A."""
    return reply[:1] if reply[:1] in _letters(choices) else None


def leading_letter(reply: str, choices: tuple[str, ...], target: str = "") -> str | None:
    """Daily-Omni: the first letter of the reply, small or capital, whatever follows it."""
    letter = reply.lstrip()[:1].upper()
    return letter if letter and letter in _letters(choices) else None


def last_mark(reply: str, choices: tuple[str, ...], target: str = "") -> str | None:
    """OmniBench and others: `(C)`, else `C `, else `C.`, else an option's words in a long reply.

    Of several the last one counts.
    """
    text = f" {reply} "
    for mark in ("({})", "{} ", "{}."):
        found = [letter for letter in _letters(choices) if mark.format(letter) in text]
        if found:
            shape = "({})" if mark == "({})" else " {} "
            return max(found, key=lambda letter: text.rfind(shape.format(letter)))
    if len(reply.split()) <= FEW_WORDS:
        return None
    places = {
        letter: text.lower().rfind(choice.lower())
        for letter, choice in zip(_letters(choices), choices, strict=True)
    }
    last = max(places, key=lambda letter: places[letter])
    return last if places[last] >= 0 else None


def stripped_last_mark(reply: str, choices: tuple[str, ...], target: str = "") -> str | None:
    """MMAU and NExT-QA: as `last_mark`, after marks around the reply are stripped in turn."""
    for mark in MARKS:
        reply = reply.strip(mark)
    return last_mark(reply, choices, target)


def first_capital(reply: str, choices: tuple[str, ...], target: str = "") -> str | None:
    """WorldSense: the first A, B, C or D anywhere behind some phrases; `Best answer: C` is a B."""
    text = reply.strip()
    for prefix in PREFIXES:
        text = text.replace(prefix, "")
    found = re.search("[ABCD]", text)
    return found[0] if found and found[0] in _letters(choices) else None


def whole_word(reply: str, choices: tuple[str, ...], target: str = "") -> str | None:
    """POPE: the whole reply is yes or no; `yes.` is neither."""
    known = [choice.lower() for choice in choices]
    said = reply.strip().lower()
    return LETTERS[known.index(said)] if said in known else None


def names_target(reply: str, choices: tuple[str, ...], target: str) -> str | None:
    """ModelNet40: right if the class stands in the reply; a reply that names all is right too."""
    return target if target.lower() in reply.lower() else None


OFFICIAL: dict[str, Reader] = {
    reader.__name__: reader
    for reader in (
        first_character,
        leading_letter,
        last_mark,
        stripped_last_mark,
        first_capital,
        whole_word,
        names_target,
    )
}


def _letters(choices: Sequence[str]) -> tuple[str, ...]:
    return tuple(LETTERS[: len(choices)])
