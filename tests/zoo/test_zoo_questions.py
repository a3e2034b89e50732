from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from omnicompose.errors import EvaluationError
from omnicompose.zoo.options import draw, feasible_sets, shared_slots
from omnicompose.zoo.questions import Question, make_questions, render_messages
from omnicompose.zoo.words import CAPTIONS, caption, is_true, phrases, slot_of
from omnicompose.zoo.world import MODALITY_SLOTS, SLOTS, sample_item

MODALITIES = tuple(MODALITY_SLOTS)
MIXTURES = [m for size in (2, 3) for m in combinations(MODALITIES, size)]


@pytest.mark.parametrize("modalities", [*MIXTURES, ("image", "image"), ("video",)])
def test_exactly_the_answer_is_true_of_every_item(modalities: tuple[str, ...]) -> None:
    kind = "mcub" if len(modalities) > 1 else "true"
    for question in make_questions(kind, modalities, 300, seed=1):
        shared = [all(is_true(o, item) for item in question.items) for o in question.options]
        assert shared == [i == question.answer_index for i in range(4)], question
        assert len(set(question.options)) == 4
        assert sorted(i.modality for i in question.items) == sorted(modalities)


@pytest.mark.parametrize("modalities", [("image", "audio"), MODALITIES, ("video",)])
def test_every_option_could_have_been_the_answer(modalities: tuple[str, ...]) -> None:
    """For each shown set, search things that make each option in turn the only shared one."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        options = draw(rng, modalities).options
        slots = {slot_of(o) for o in options}
        for slot in slots:
            rows = tuple(
                sorted(
                    phrases(slot, len(modalities)).index(o) for o in options if slot_of(o) == slot
                )
            )
            assert rows in feasible_sets(slot, len(modalities), len(rows))
        assert slots <= set(shared_slots(modalities))


def test_feasible_sets_leave_out_what_cannot_be_asked() -> None:
    size_words = feasible_sets("size", 1, 2)
    assert size_words == ()  # one thing is small or big: with both offered nothing else can be true
    assert feasible_sets("size", 2, 2) == ((0, 1),)
    for rows in feasible_sets("number", 1, 2):
        assert {phrases("number", 1)[r] for r in rows} != {"even number", "odd number"}


def test_a_reader_of_the_options_alone_is_at_chance() -> None:
    """The best position and the best prior over phrases, both fitted on other questions."""
    train = make_questions("mcub", MODALITIES, 4000, seed=5)
    test = make_questions("mcub", MODALITIES, 4000, seed=6)
    offered, right = Counter[str](), Counter[str]()
    for question in train:
        offered.update(question.options)
        right[question.answer_text] += 1
    guesses = [max(q.options, key=lambda o: right[o] / offered[o]) for q in test]
    accuracy = np.mean([g == q.answer_text for g, q in zip(guesses, test, strict=True)])
    assert 0.225 < accuracy < 0.275
    positions = Counter(q.answer_index for q in test)
    assert all(850 < positions[i] < 1150 for i in range(4))


def test_one_thing_alone_does_not_suffice() -> None:
    """Guess among the options that are true of the first thing: far from the whole answer."""
    questions = make_questions("mcub", MODALITIES, 2000, seed=7)
    chance = [1 / sum(is_true(o, q.items[0]) for o in q.options) for q in questions]
    assert np.mean(chance) < 0.5


def test_questions_are_deterministic_and_prefix_stable() -> None:
    long = make_questions("true", ("audio",), 20, seed=3)
    assert long[:7] == make_questions("true", ("audio",), 7, seed=3)
    assert long != make_questions("true", ("audio",), 20, seed=4)
    assert len({q.id for q in long}) == 20


def test_open_and_yesno_answers_agree_with_the_item() -> None:
    for question in make_questions("open", ("video",), 100, seed=0):
        assert question.answer_text in question.options
        slot = slot_of(question.answer_text)
        assert question.items[0].word(slot) == question.answer_text
        assert question.options == SLOTS[slot]
    answers = Counter[str]()
    for question in make_questions("yesno", ("image",), 400, seed=0):
        phrase = question.text.removeprefix("Is this true of the picture: ").removesuffix("?")
        assert is_true(phrase, question.items[0]) == (question.answer_text == "yes")
        answers[question.answer_text] += 1
    assert 150 < answers["yes"] < 250


def test_captions_tell_everything_shown() -> None:
    rng = np.random.default_rng(0)
    for modality in MODALITIES:
        item = sample_item(rng, modality)
        for style in range(len(CAPTIONS[modality])):
            told = caption(item, style)
            assert all(item.word(slot) in told for slot in MODALITY_SLOTS[modality])
    described = make_questions("describe", ("audio",), 1, seed=0)[0]
    assert described.answer_text == caption(described.items[0])
    assert described.options == () and described.answer_index is None


def one_question() -> Question:
    return make_questions("mcub", MODALITIES, 1, seed=0)[0]


def test_messages_show_media_in_order() -> None:
    question = one_question()
    (message,) = render_messages(question)
    assert message["role"] == "user"
    kinds = [entry["type"] for entry in message["content"]]
    assert kinds == [*(item.modality for item in question.items), "text"]
    assert message["content"][-1]["text"] == question.text
    assert all(
        f"\n{o} ({letter})" in question.text
        for letter, o in zip("ABCD", question.options, strict=True)
    )


def test_messages_leave_out_or_tell_what_is_not_shown() -> None:
    question = one_question()
    (blind,) = render_messages(question, shown=())
    assert [entry["type"] for entry in blind["content"]] == ["text"]
    (told,) = render_messages(question, shown=("audio",), stand_in="captions")
    for item, entry in zip(question.items, told["content"], strict=False):
        if item.modality == "audio":
            assert entry == {"type": "audio"}
        else:
            assert caption(item) in entry["text"]


def test_letters_belong_to_the_kinds_with_lettered_options() -> None:
    question = one_question()
    assert question.answer_letter == "ABCD"[question.answer_index or 0]
    assert question.reply == f"{question.answer_text} ({question.answer_letter})"
    assert f"\n{question.reply}" in question.text
    spoken = make_questions("yesno", ("image",), 1, seed=0)[0]
    assert spoken.answer_letter is None
    assert spoken.reply == spoken.answer_text


@pytest.mark.parametrize(
    ("kind", "modalities", "message"),
    [
        ("guess", ("image",), "question kind 'guess' is unknown"),
        ("true", ("smell",), "no modality 'smell'"),
        ("mcub", ("image",), "found 1 modalities, expected two or three"),
        ("true", ("image", "audio"), "found 2 modalities, expected exactly one"),
        ("open", (), "found 0 modalities, expected exactly one"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    kind: str, modalities: tuple[str, ...], message: str
) -> None:
    with pytest.raises(EvaluationError, match=message):
        make_questions(kind, modalities, 1, seed=0)
