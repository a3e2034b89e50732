r"""From a generated reply to a letter: a ladder of rules, the first that fits wins and is recorded.

| rule     | the reply                                                            |
|----------|----------------------------------------------------------------------|
| bare     | is one letter: `C`, `(C)`, `c.`                                      |
| label    | opens with a label: `C. a violin`, `(C) because`, `C) ...`           |
| stated   | says so; the last time counts: `Answer: C`, `the right option is C`  |
| single   | names exactly one option letter, standing alone as a capital         |
| text     | holds the words of exactly one option                                |
| unparsed | none of these: counted wrong, and reported                           |

Thinking, answer tags and Markdown are stripped first. `A` before a word other than *and*, *or*,
*is*, *because* is an article, not an answer. A letter that the reply denies (`not A`) is not taken.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from omnicompose.evaluation.sample import LETTERS

RULES = ("bare", "label", "stated", "single", "text", "unparsed")

_THINKING = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.IGNORECASE | re.DOTALL)
_TAGS = re.compile(r"</?(?:answer|final|option|choice|s|b|i)>|\\boxed\b|<\|?/?[\w ]+\|?>", re.I)
_MARKUP = re.compile(r"[*_`#$\\{}]+")
_STATED = re.compile(
    r"\b(?:answer|option|choice|letter)s?\b(?:\s+(?:is|would\s+be|must\s+be|should\s+be))?"
    r"(?P<link>\s*[:=\-]\s*|\s+(?:option|choice|letter)?\s*|\s*)"
    r"[\"'(\[]*(?P<letter>[A-J])(?![\w'])(?P<rest>\s+[a-z]+)?",
    re.IGNORECASE,
)
_DENIED = re.compile(r"\b(?:not|isn't|never|neither|nor|except|wrong)\b[^.;!?\n]*\Z", re.IGNORECASE)
_ALONE = re.compile(r"(?<![\w'])([A-J])(?![\w'])(?:\s+([A-Za-z]{2,}))?")


class Parsed(NamedTuple):
    """What a reply was understood to say.

    Attributes:
        letter: the option's letter; None when the reply names none or several.
        rule: the first of `RULES` that fitted.
    """

    letter: str | None
    rule: str


def parse_reply(reply: str, choices: Sequence[str]) -> Parsed:
    """Read a generated reply to a question with the given options; see the module's table."""
    letters = LETTERS[: len(choices)]
    text = clean(reply)
    for rule, find in (
        ("bare", _bare),
        ("label", _label),
        ("stated", _stated),
        ("single", _single),
    ):
        letter = find(text, letters)
        if letter is not None:
            return Parsed(letter, rule)
    letter = _text(text, choices)
    return Parsed(letter, "text" if letter else "unparsed")


def clean(reply: str) -> str:
    """The reply without thinking, tags, Markdown and space around it."""
    text = _TAGS.sub(" ", _THINKING.sub(" ", reply))
    return _MARKUP.sub("", text).strip()


def _bare(text: str, letters: str) -> str | None:
    match = re.fullmatch(r"[\s\"'(\[]*([A-Ja-j])[\s\"')\].:,!]*", text)
    letter = match.group(1).upper() if match else ""
    return letter if letter and letter in letters else None


def _label(text: str, letters: str) -> str | None:
    match = re.match(r"[\"']?(?:\(([A-J])\)|\[([A-J])\]|([A-J])[.):,](?!\w)|([A-J])\s*[-\n])", text)
    letter = next((group for group in match.groups() if group), "") if match else ""
    return letter if letter and letter in letters else None


def _stated(text: str, letters: str) -> str | None:
    found = [m for m in _STATED.finditer(text) if _is_statement(m, text, letters)]
    return found[-1].group("letter").upper() if found else None


def _is_statement(match: re.Match[str], text: str, letters: str) -> bool:
    letter, rest = match.group("letter"), (match.group("rest") or "").strip()
    if letter.upper() not in letters or _DENIED.search(text[: match.start("letter")]):
        return False
    if letter.islower() and not match.group("link").strip():
        return False  # "the answer is a violin", "a choice between ..."
    return not _is_article(letter.upper(), rest) or ":" in match.group("link")


def _single(text: str, letters: str) -> str | None:
    named = {
        match.group(1)
        for match in _ALONE.finditer(text)
        if match.group(1) in letters
        and not _is_article(match.group(1), match.group(2) or "")
        and match.group(1) != "I"
    }
    if len(named) != 1:
        return None
    letter = named.pop()
    position = next(m.start() for m in _ALONE.finditer(text) if m.group(1) == letter)
    return None if _DENIED.search(text[:position]) else letter


def _is_article(letter: str, next_word: str) -> bool:
    return letter == "A" and bool(next_word) and next_word not in ("and", "or", "because", "is")


def _text(text: str, choices: Sequence[str]) -> str | None:
    folded = _words(text)
    held = [i for i, choice in enumerate(choices) if f" {_words(choice)} " in f" {folded} "]
    # An option inside another one ("rain", "rain on a roof") yields to the longer.
    held = [i for i in held if not any(i != j and _inside(choices[i], choices[j]) for j in held)]
    return LETTERS[held[0]] if len(held) == 1 else None


def _inside(short: str, long: str) -> bool:
    return f" {_words(short)} " in f" {_words(long)} " and _words(short) != _words(long)


def _words(text: str) -> str:
    return " ".join(re.findall(r"[\w']+", text.casefold()))
