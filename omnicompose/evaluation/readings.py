"""How a generated reply is understood, by kind of question, without a judge model.

| reading | the reply                                                                | right if  |
|---------|--------------------------------------------------------------------------|-----------|
| letters | chooses one of the options shown (the ladder of `replies`)               | it is it  |
| yesno   | says yes or no, as its first word or as the only one of both             | it is it  |
| words   | is one of a closed set of answers after `vqa_normalised`                 | it is it  |
| mention | names exactly one of a closed set of classes, of nested ones the longest | it is it  |
| caption | describes; compared with the reference by ROUGE-L                        | (a grade) |

A reply that none of this fits is unparsed, and counts as wrong.
"""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from omnicompose.evaluation.replies import clean, parse_reply
from omnicompose.evaluation.sample import LETTERS, Reading, option_label

NUMBER_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DIGITS = {word: str(number) for number, word in enumerate((*NUMBER_WORDS, "ten"))} | {"none": "0"}
ARTICLES = ("a", "an", "the")
PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
DECIMALS = 6
"""Of stored grades."""


class Understood(NamedTuple):
    """What became of a reply.

    Attributes:
        answer: label of the option chosen (`sample.option_label`), or the words of a caption; None
            if it could not be read.
        rule: how it was found.
        correct: 1 right, 0 wrong, or a grade between.
    """

    answer: str | None
    rule: str
    correct: int | float


class Found(NamedTuple):
    """Which option a reply chooses: its place, or None, and the rule that found it."""

    place: int | None
    rule: str


Reader = Callable[[str, tuple[str, ...]], Found]


def understand(reply: str, choices: tuple[str, ...], target: str, reading: Reading) -> Understood:
    """Read a generated reply.

    Args:
        reply: as generated.
        choices: the options; of a caption the reference alone.
        target: label of the right one.
        reading: kind of question.
    """
    if reading == "caption":
        grade = round(rouge_l(reply, choices[0]), DECIMALS)
        return Understood(reply.strip() or None, "rouge_l", grade if grade % 1 else int(grade))
    place, rule = READERS[reading](reply, choices)
    answer = None if place is None else option_label(choices, place)
    return Understood(answer, rule, int(answer == target))


def vqa_normalised(text: str) -> str:
    """A short answer as VQA compares it: `Two!` and `the 2` are both `2`.

    Lower case; a comma between digits and a full stop that is no decimal point go; other
    punctuation goes where a space stands beside it anywhere in the text and becomes a space
    otherwise; number words become digits, articles go, apostrophes do not count.
    """
    plain = " ".join(text.lower().replace("'", "").replace("\u2019", "").split())
    glued = re.search(r"\d,\d", plain) is not None
    out = plain
    for mark in PUNCTUATION:
        beside = f"{mark} " in plain or f" {mark}" in plain or glued
        out = out.replace(mark, "" if beside else " ")
    words = re.sub(r"\.(?!\d)", "", out).split()
    return " ".join(DIGITS.get(word, word) for word in words if word not in ARTICLES)


def rouge_l(candidate: str, reference: str) -> float:
    """F1 of the longest common subsequence of words, in [0, 1]."""
    first, second = (re.findall(r"[a-z0-9]+", text.lower()) for text in (candidate, reference))
    common = _longest_common(first, second)
    return 2 * common / (len(first) + len(second)) if common else 0.0


def _longest_common(first: Sequence[str], second: Sequence[str]) -> int:
    row = [0] * (len(second) + 1)
    for word in first:
        before = 0
        for j, other in enumerate(second):
            above = row[j + 1]
            row[j + 1] = before + 1 if word == other else max(above, row[j])
            before = above
    return row[-1]


def _letters(reply: str, choices: tuple[str, ...]) -> Found:
    letter, rule = parse_reply(reply, choices)
    return Found(None if letter is None else LETTERS.index(letter), rule)


def _yesno(reply: str, choices: tuple[str, ...]) -> Found:
    words = re.findall(r"[a-z]+", clean(reply).lower())
    known = [choice.lower() for choice in choices]
    if words and words[0] in known:
        return Found(known.index(words[0]), "bare" if len(words) == 1 else "stated")
    named = {word for word in words if word in known}
    return Found(known.index(named.pop()), "single") if len(named) == 1 else Found(None, "unparsed")


def _words(reply: str, choices: tuple[str, ...]) -> Found:
    said = vqa_normalised(clean(reply))
    known = [vqa_normalised(choice) for choice in choices]
    return Found(known.index(said), "exact") if said in known else Found(None, "unparsed")


def _mention(reply: str, choices: tuple[str, ...]) -> Found:
    said = f" {' '.join(re.findall(r'[a-z0-9]+', clean(reply).lower()))} "
    named = [i for i, choice in enumerate(choices) if f" {choice.lower()} " in said]
    longest = [i for i in named if not any(i != j and choices[i] in choices[j] for j in named)]
    return Found(longest[0], "text") if len(longest) == 1 else Found(None, "unparsed")


READERS: dict[Reading, Reader] = {
    "letters": _letters,
    "yesno": _yesno,
    "words": _words,
    "mention": _mention,
}
