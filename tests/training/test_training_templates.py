"""Which tokens the assistant says, whatever the chat template and the placeholders become."""

from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerBase

from omnicompose.errors import TrainingError
from omnicompose.training.records import Record
from omnicompose.training.templates import ChatRenderer, Rendered, follow
from omnicompose.zoo.tokenizer import CHAT_TEMPLATE, make_tokenizer

PLAIN = CHAT_TEMPLATE.replace("{%- generation -%}", "").replace("{%- endgeneration -%}", "")
MESSAGES = (
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "red"}]},
    {"role": "assistant", "content": "blue"},
    {"role": "user", "content": "big"},
    {"role": "assistant", "content": "small"},
)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    return tokenizer


def record(*messages: dict[str, object]) -> Record:
    return Record(where="a.jsonl:3", messages=messages, media=(("image", Path("a.png")),))


def said(tokenizer: PreTrainedTokenizerBase, rendered: Rendered) -> list[str]:
    ids = [i for i, mark in zip(rendered.input_ids, rendered.said, strict=True) if mark]
    return tokenizer.convert_ids_to_tokens(ids)


@pytest.mark.parametrize("template", [CHAT_TEMPLATE, PLAIN], ids=["block", "difference"])
def test_replies_and_their_ends_are_said(tokenizer: PreTrainedTokenizerBase, template: str) -> None:
    renderer = ChatRenderer(tokenizer=tokenizer, template=template)
    assert said(tokenizer, renderer.render(record(*MESSAGES))) == [
        "blue",
        "<eos>",
        "small",
        "<eos>",
    ]


def test_both_ways_of_rendering_agree(tokenizer: PreTrainedTokenizerBase) -> None:
    one, two = (
        ChatRenderer(tokenizer=tokenizer, template=template).render(record(*MESSAGES))
        for template in (CHAT_TEMPLATE, PLAIN)
    )
    assert one == two


def test_a_template_that_rewrites_what_was_said(tokenizer: PreTrainedTokenizerBase) -> None:
    template = "{% for m in messages %}{{ loop.length }}{{ m['content'] }}{% endfor %}"
    renderer = ChatRenderer(tokenizer=tokenizer, template=template)
    with pytest.raises(TrainingError, match=r"a\.jsonl:3: messages\.1: the chat template does not"):
        renderer.render(record(*MESSAGES[2:]))


def test_a_template_that_fails(tokenizer: PreTrainedTokenizerBase) -> None:
    template = "{{ raise_exception('no system turn') }}"
    renderer = ChatRenderer(tokenizer=tokenizer, template=template)
    with pytest.raises(TrainingError, match=r"a\.jsonl:3: messages: .* no system turn"):
        renderer.render(record(*MESSAGES))


def rendered(*marked: tuple[int, bool]) -> Rendered:
    ids, marks = zip(*marked, strict=True)
    return Rendered(text="", input_ids=ids, said=marks)


@pytest.mark.parametrize(
    ("expanded", "expected"),
    [
        ([1, 9, 2, 3], "...x"),
        ([1, 9, 9, 9, 2, 3], ".....x"),
        ([1, 7, 9, 8, 9, 7, 2, 3], ".......x"),  # tiles with tokens around them
        ([5, 1, 9, 9, 2, 3], ".....x"),  # a token that the processor puts first
    ],
)
def test_said_follows_what_placeholders_become(expanded: list[int], expected: str) -> None:
    before = rendered((1, False), (9, False), (2, False), (3, True))
    assert follow(before, expanded, "a:1") == [mark == "x" for mark in expected]


def test_two_placeholders_with_a_reply_between() -> None:
    before = rendered((9, False), (3, True), (9, False), (4, True))
    assert follow(before, [9, 9, 3, 9, 9, 4], "a:1") == [False] * 2 + [True] + [False] * 2 + [True]


def test_other_tokens_than_before_are_refused() -> None:
    with pytest.raises(TrainingError, match=r"a:1: messages: the processor turns the chat"):
        follow(rendered((1, False), (2, True)), [1, 4], "a:1")
