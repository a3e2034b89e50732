"""The bank of replies: every disputed one found later is added to reply_bank.jsonl."""

import json
from pathlib import Path

import pytest

from omnicompose.evaluation.official import first_character
from omnicompose.evaluation.replies import RULES, clean, parse_reply

CHOICES = ("a dog barking", "a piano", "a violin", "rain")
BANK = [
    json.loads(line)
    for line in (Path(__file__).parent / "reply_bank.jsonl").read_text().splitlines()
]


@pytest.mark.parametrize("entry", BANK, ids=lambda entry: repr(entry["reply"])[:40])
def test_bank(entry: dict[str, str | None]) -> None:
    assert parse_reply(str(entry["reply"]), CHOICES) == (entry["letter"], entry["rule"])


def test_the_bank_exercises_every_rule() -> None:
    assert {entry["rule"] for entry in BANK} == set(RULES)
    assert len(BANK) >= 32


def test_letters_beyond_the_options_are_no_answer() -> None:
    assert parse_reply("C", ("yes", "no")).rule == "unparsed"
    assert parse_reply("the answer is B", ("yes", "no")) == ("B", "stated")


def test_the_longer_option_wins_over_one_inside_it() -> None:
    choices = ("rain", "rain on a roof", "wind", "waves")
    assert parse_reply("this is rain on a roof", choices) == ("B", "text")
    assert parse_reply("this is rain", choices) == ("A", "text")


def test_the_official_rule_of_mcub_is_literal() -> None:
    assert first_character("C. a violin", CHOICES) == "C"
    assert first_character("Answer: C", CHOICES) == "A"
    assert first_character(" C", CHOICES) is None
    assert first_character("", CHOICES) is None


def test_clean() -> None:
    assert clean("<think>A</think> **C**") == "C"
