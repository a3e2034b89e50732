"""The token behind the exact prompt bytes, and what its likelihood says."""

import math
import re

import pytest

from omnicompose.errors import EvaluationError
from omnicompose.evaluation.letters import (
    best_letter,
    letter_mass,
    letter_token_ids,
    probabilities,
)


def words(text: str) -> list[int]:
    """A tokenizer that keeps the space before a word, as byte-level ones do."""
    return [sum(map(ord, piece)) for piece in re.findall(r" ?[A-Za-z]+|[^A-Za-z ]| ", text)]


def test_the_spelling_that_follows_the_prompt_is_found() -> None:
    assert letter_token_ids(words, "Answer:", "AB") == [[65, 66], [32 + 65, 32 + 66]]
    # Behind a word only the spelling with a space is a token of its own: "isA" is another word.
    assert letter_token_ids(words, "The answer is", "AB") == [[32 + 65, 32 + 66]]


def test_letters_that_are_no_single_token_are_refused() -> None:
    with pytest.raises(EvaluationError, match=r"ends in 'Answer:'.*each of A, B, C with a token"):
        letter_token_ids(lambda text: list(text.encode()) * 2, "Answer:", "ABC")


def test_letters_that_share_a_token_are_refused() -> None:
    def unknown(text: str) -> list[int]:
        return [1] * len(text)

    with pytest.raises(EvaluationError, match="use --score generate"):
        letter_token_ids(unknown, "Answer:", "AB")


def test_probabilities_are_over_the_letters_only() -> None:
    scores = [math.log(0.2), math.log(0.1), math.log(0.1)]
    assert probabilities(scores) == pytest.approx((0.5, 0.25, 0.25))
    assert letter_mass(scores) == pytest.approx(0.4)
    assert sum(probabilities([-1000.0, -1001.0])) == pytest.approx(1.0)


def test_of_equal_letters_the_first_is_taken() -> None:
    assert best_letter([-1.0, -0.5, -0.5]) == "B"


def test_an_option_may_begin_with_words() -> None:
    openings = ("red", "even number", "odd number")
    assert letter_token_ids(words, "Answer:", openings)[0] == [
        sum(map(ord, word)) for word in ("red", "even", "odd")
    ]
    with pytest.raises(EvaluationError, match="even number, even digit with a token of its own"):
        letter_token_ids(words, "Answer:", ("even number", "even digit"))
