"""Short answers, yes and no, class names, captions; and the authors' own readers, flaws and all."""

import pytest

from omnicompose.evaluation.official import OFFICIAL
from omnicompose.evaluation.readings import rouge_l, understand, vqa_normalised
from omnicompose.evaluation.sample import Reading
from omnicompose.evaluation.tasks.modelnet40 import CLASSES

SOUNDS = ("a dog barking", "a piano", "a violin", "rain")
YES_NO = ("Yes", "No")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Two!", "2"),
        ("the 2", "2"),
        ("None", "0"),
        ("1,000", "1000"),
        ("3.5.", "3.5"),
        ("left-right", "left right"),
        ("well, yes", "well yes"),
        ("Don't", "dont"),
        ("An  accordion\n", "accordion"),
    ],
)
def test_short_answers_are_compared_as_vqa_does(text: str, expected: str) -> None:
    assert vqa_normalised(text) == expected


@pytest.mark.parametrize(
    ("reading", "choices", "reply", "answer", "rule"),
    [
        ("yesno", YES_NO, "Yes.", "A", "bare"),
        ("yesno", YES_NO, "no, it is not", "B", "stated"),
        ("yesno", YES_NO, "I say yes", "A", "single"),
        ("yesno", YES_NO, "maybe yes, maybe no", None, "unparsed"),
        ("yesno", YES_NO, "", None, "unparsed"),
        ("words", ("two", "yes"), "Two.", "A", "exact"),
        ("words", ("two", "yes"), "it is two", None, "unparsed"),
        ("mention", CLASSES, "This is a 3D model of a flower pot.", "flower pot", "text"),
        ("mention", CLASSES, "A bed or a bench", None, "unparsed"),
        ("mention", CLASSES, "A bedroom", None, "unparsed"),
        ("letters", SOUNDS, "Answer: C", "C", "stated"),
    ],
)
def test_a_reply_is_understood(
    reading: Reading, choices: tuple[str, ...], reply: str, answer: str | None, rule: str
) -> None:
    found = understand(reply, choices, answer or "x", reading)
    assert (found.answer, found.rule, found.correct) == (answer, rule, int(answer is not None))


def test_captions_are_graded() -> None:
    assert rouge_l("a red car", "a red car") == 1.0
    assert rouge_l("", "a red car") == 0.0
    assert rouge_l("the car is red", "a red car") == pytest.approx(2 / 7)
    assert understand("A red car.", ("a red car",), "A", "caption").correct == 1
    assert isinstance(understand("A red car.", ("a red car",), "A", "caption").correct, int)
    assert understand(" ", ("a red car",), "A", "caption").answer is None


@pytest.mark.parametrize(
    ("rule", "reply", "expected"),
    [
        ("first_character", "C. a violin", "C"),
        ("first_character", "Answer: C", "A"),
        ("leading_letter", " c because", "C"),
        ("leading_letter", "Dunno", "D"),
        ("leading_letter", "", None),
        ("last_mark", "(A) or (C)", "C"),
        ("last_mark", "It is not A but C", "C"),
        ("last_mark", "I think that it must be a violin", "C"),
        ("last_mark", "a violin", None),
        ("last_mark", "C.", "C"),
        ("last_mark", "I cannot hear any sound at all", None),
        ("stripped_last_mark", "'C.'", "C"),
        ("stripped_last_mark", "C.", "C"),
        ("first_capital", "Best answer: C", "B"),
        ("first_capital", "The answer is C", "C"),
        ("first_capital", "rain", None),
    ],
)
def test_the_authors_readers(rule: str, reply: str, expected: str | None) -> None:
    assert OFFICIAL[rule](reply, SOUNDS, "C") == expected


def test_the_authors_readers_of_words() -> None:
    assert OFFICIAL["whole_word"](" YES ", YES_NO, "A") == "A"
    assert OFFICIAL["whole_word"]("yes.", YES_NO, "A") is None
    assert OFFICIAL["names_target"]("bed, bench and chair", CLASSES, "bench") == "bench"
    assert OFFICIAL["names_target"]("a bed", CLASSES, "bench") is None
