"""Training data as `omnicompose train` reads it: pictures, and chats about them as JSON lines."""

import json
from collections.abc import Callable, Iterator, Sequence, Set
from pathlib import Path

import numpy as np

from omnicompose.zoo.capabilities.drawing import encode
from omnicompose.zoo.capabilities.held_out import draw_apart, held_out_pixels
from omnicompose.zoo.capabilities.media import Asked, write_library
from omnicompose.zoo.capabilities.questions import (
    CAPABILITIES,
    HUES,
    KINDS,
    PRIMER,
    SKILL,
    TASKS,
    VALUES,
    Question,
    caption,
    questions_about,
)
from omnicompose.zoo.capabilities.world import (
    ALPHABET,
    DEGREES,
    LIES,
    SHAPES,
    Kind,
    Picture,
    Split,
    draw_picture,
)

Turn = tuple[str, str]
"""A question and its reply."""
NUM_PICTURES: dict[str, int] = dict.fromkeys(CAPABILITIES, 6000) | {SKILL: 2400}
"""Training pictures per task."""
NUM_PRIMER = 300
"""Chats of each capability that the base, too, is shown."""
NUM_TEXTS = 800
"""Chats without a picture that the base learns its words from."""
QUESTIONS_EACH = 3
"""Questions per training chat at most: to look at the picture again is what costs."""
HELD_OUT: dict[Split, int] = {"validation": 40, "test": 150}
"""Held-out pictures per task; each is asked about `HELD_OUT_QUESTIONS` times."""
HELD_OUT_QUESTIONS = 2
CAPTION_REQUEST = "describe it."


def write_lessons(folder: Path, held_out: Path, seed: int = 0) -> None:
    """Write `folder/TASK.jsonl` for every task, the base's primer and texts, pictures beside them.

    Args:
        folder: where to.
        held_out: the library of validation and test pictures: none of them is drawn again.
        seed: of everything random.
    """
    (folder / "media").mkdir(parents=True, exist_ok=True)
    taken = held_out_pixels(held_out)
    primer: list[dict[str, object]] = []
    for number, task in enumerate(TASKS):
        rng = np.random.default_rng((seed, 1, number))
        chats = [_lesson(rng, folder, (task, index), taken) for index in range(NUM_PICTURES[task])]
        _write(folder / f"{task}.jsonl", chats)
        primer += chats[:NUM_PRIMER] if task in CAPABILITIES else []
    _write(folder / f"{PRIMER}.jsonl", primer)
    rng = np.random.default_rng((seed, 2))
    _write(folder / "text.jsonl", [_text_lesson(rng) for _ in range(NUM_TEXTS)])


def write_held_out(path: Path, seed: int = 0) -> None:
    """Draw the validation and test pictures and pack them with their questions."""
    write_library(path, list(_held_out(seed)))


def _held_out(seed: int) -> Iterator[Asked]:
    taken: set[bytes] = set()
    for split, count in HELD_OUT.items():
        for number, task in enumerate(TASKS):
            rng = np.random.default_rng((seed, 3, number, count))
            for index in range(count):
                picture, pixels = draw_apart(rng, _kind(task, index), split, taken)
                taken.add(pixels.tobytes())
                yield Asked(
                    split=split,
                    task=task,
                    name=f"{split}/{task}-{index:04d}.png",
                    questions=tuple(_chosen(rng, picture, task, HELD_OUT_QUESTIONS)),
                    data=encode(pixels, small=True),
                )


def _kind(task: str, index: int) -> Kind:
    """An expert's own kind of picture; the base's skill takes all kinds in turn."""
    kinds: tuple[Kind, ...] = ("scene", "figure", "chart", "word")
    return CAPABILITIES[task] if task in CAPABILITIES else kinds[index % len(kinds)]


def _chosen(rng: np.random.Generator, picture: Picture, task: str, most: int) -> list[Question]:
    """Some of the questions about a picture: first the kind of question, then which one."""
    by_kind: dict[tuple[str, ...], list[Question]] = {}
    for question in questions_about(picture, task):
        by_kind.setdefault((*question.text.split()[:2], *question.choices), []).append(question)
    rounds = [[bucket[i] for i in rng.permutation(len(bucket))] for bucket in by_kind.values()]
    order = [rounds[i] for i in rng.permutation(len(rounds))]
    found: list[Question] = []
    while len(found) < most and any(order):
        found += [bucket.pop() for bucket in order if bucket]
    return found[:most]


def _lesson(
    rng: np.random.Generator, folder: Path, place: tuple[str, int], taken: Set[bytes]
) -> dict[str, object]:
    task, index = place
    picture, pixels = draw_apart(rng, _kind(task, index), "train", taken)
    name = f"media/{task}-{index:05d}.png"
    (folder / name).write_bytes(encode(pixels))
    asked = _chosen(rng, picture, task, QUESTIONS_EACH)
    turns = [(question.text, question.answer) for question in asked]
    if task == SKILL and rng.random() < 0.6:
        turns.append((CAPTION_REQUEST, caption(picture)))
    return _chat(f"{task}-{index}", turns, name)


def _chat(name: str, turns: Sequence[Turn], picture: str | None) -> dict[str, object]:
    messages: list[dict[str, object]] = []
    for place, (question, reply) in enumerate(turns):
        content: list[dict[str, str]] = [{"type": "text", "text": question}]
        if picture is not None and place == 0:
            content.insert(0, {"type": "image", "path": picture})
        messages.append({"role": "user", "content": content})
        messages.append({"role": "assistant", "content": reply})
    return {"id": name, "messages": messages}


def _text_lesson(rng: np.random.Generator) -> dict[str, object]:
    """Small facts that make every word of an answer known to the base."""
    facts: list[Callable[[np.random.Generator], Turn]] = [_next_number, _next_letter, _spoken]
    turns = [facts[int(rng.integers(len(facts)))](rng) for _ in range(4)]
    return _chat("text", turns, None)


def _next_number(rng: np.random.Generator) -> Turn:
    number = int(rng.integers(9))
    return f"what comes after {number}?", str(number + 1)


def _next_letter(rng: np.random.Generator) -> Turn:
    place = int(rng.integers(len(ALPHABET) - 1))
    return f"what comes after {ALPHABET[place]}?", ALPHABET[place + 1]


def _spoken(rng: np.random.Generator) -> Turn:
    words = (*HUES, *SHAPES, *KINDS, *LIES, *map(str, DEGREES), *VALUES, "0", *ALPHABET)
    word = words[int(rng.integers(len(words)))]
    return f"say {word}", word


def _write(path: Path, chats: Sequence[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(chat) + "\n" for chat in chats), encoding="utf-8")


def corpus() -> list[str]:
    """Sentences in which every word of questions and replies occurs, for the tokenizer."""
    rng = np.random.default_rng(0)
    turns: list[Turn] = [_spoken(rng) for _ in range(400)]
    for _ in range(40):
        turns += [_next_number(rng), _next_letter(rng)]
    for task in TASKS:
        for index in range(120):
            picture = draw_picture(rng, _kind(task, index), "train")
            turns += [(q.text, q.answer) for q in questions_about(picture, task)]
            turns.append((CAPTION_REQUEST, caption(picture)))
    return [sentence for turn in turns for sentence in turn]
