"""The capability zoo's pictures, splits, questions and lessons."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from omnicompose.errors import MediaError, TrainingError
from omnicompose.zoo.capabilities import lessons
from omnicompose.zoo.capabilities.drawing import decode, draw, encode
from omnicompose.zoo.capabilities.lessons import corpus
from omnicompose.zoo.capabilities.media import Asked, read_library, write_library
from omnicompose.zoo.capabilities.plan import STAGES, config_of
from omnicompose.zoo.capabilities.questions import (
    CAPABILITIES,
    KINDS,
    TASKS,
    caption,
    questions_about,
)
from omnicompose.zoo.capabilities.train import train_capabilities
from omnicompose.zoo.capabilities.world import (
    SIDE,
    SPLITS,
    Chart,
    Figure,
    Picture,
    Scene,
    Thing,
    Word,
    draw_picture,
    split_of,
)

SCENE = Scene(
    things=(
        Thing(shape="star", colour="red", cell=1, size=12, shift=(0, 0)),
        Thing(shape="circle", colour="red", cell=6, size=12, shift=(0, 0)),
        Thing(shape="cross", colour="blue", cell=15, size=12, shift=(0, 0)),
    ),
    box=2,
    shade=255,
)
CHART = Chart(form="bars", colours=("red", "green", "blue"), values=(4, 9, 2), grid=False)


def answers(picture: object, task: str) -> dict[str, str]:
    return {question.text: question.answer for question in questions_about(picture, task)}  # type: ignore[arg-type]


def test_a_picture_belongs_to_one_split_whoever_draws_it() -> None:
    rng = np.random.default_rng(0)
    for kind in ("scene", "figure", "chart", "word"):
        for split in SPLITS:
            assert all(split_of(draw_picture(rng, kind, split)) == split for _ in range(5))


def test_all_prints_of_a_word_belong_together() -> None:
    looks = [
        Word(letters="AKE", font=font, colour=colour, size=22, shift=(0, 1))
        for font in ("DejaVuSans", "DejaVuSerif")
        for colour in ("red", "blue")
    ]
    assert len({split_of(word) for word in looks}) == 1


def figure(subject: str, value: int | str, turn: int, *, filled: bool = False) -> Figure:
    return Figure(
        subject=subject, value=value, colour="red", filled=filled, turn=turn, size=20, shift=(0, 0)
    )


def pie(*values: int) -> Chart:
    return Chart(form="pie", colours=("red", "green", "blue"), values=values, grid=False)


def look_alikes(seed: int) -> list[tuple[Picture, Picture]]:
    turn = seed * 7
    things = tuple(replace(thing, cell=thing.cell - seed) for thing in SCENE.things[1:])
    return [
        (pie(1, 2, 3), pie(3, 6, 9)),
        (figure("lines", "parallel", turn), figure("lines", "parallel", turn + 180, filled=True)),
        (figure("lines", "slanted", turn), figure("lines", "slanted", turn + 180)),
        (figure("lines", "upright", turn), figure("lines", "upright", turn + 90)),
        (figure("angle", 60, turn), figure("angle", 60, turn, filled=True)),
        (figure("polygon", 8, turn, filled=True), figure("polygon", 8, turn + 45, filled=True)),
        (
            Scene(things=things, box=1, shade=255),
            Scene(things=things[::-1], box=0, shade=255),
        ),
    ]


@pytest.mark.parametrize("seed", range(5))
def test_look_alikes_belong_together(seed: int) -> None:
    for one, other in look_alikes(seed):
        near = np.abs(draw(one).astype(int) - draw(other).astype(int)).mean()
        assert near < 3, (one, other)  # corners round the other way
        assert split_of(one) == split_of(other), (one, other)


def test_a_picture_with_taken_pixels_is_drawn_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lessons, "NUM_PICTURES", dict.fromkeys(TASKS, 2))
    empty, taken = tmp_path / "empty.zip", tmp_path / "taken.zip"
    write_library(empty, [])
    lessons.write_lessons(tmp_path / "free", empty)
    first = (tmp_path / "free" / "media" / "chart-00000.png").read_bytes()
    held = Asked(split="test", task="chart", name="test/a.png", questions=(), data=first)
    write_library(taken, [held])
    lessons.write_lessons(tmp_path / "kept", taken)
    media = sorted((tmp_path / "kept" / "media").glob("chart-*.png"))
    assert len(media) == 2
    assert all(path.read_bytes() != first for path in media)


def test_no_two_held_out_pictures_that_ship_look_the_same() -> None:
    held = read_library()
    assert len({decode(asked.data).tobytes() for asked in held}) == len(held)


@pytest.mark.parametrize("kind", ["scene", "figure", "chart", "word"])
def test_pictures_are_drawn_the_same_whatever_was_drawn_before(kind: str) -> None:
    rng = np.random.default_rng(1)
    pictures = [draw_picture(rng, kind, "train") for _ in range(4)]  # type: ignore[arg-type]
    first = [draw(picture) for picture in pictures]
    again = [draw(picture) for picture in reversed(pictures)][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert first[0].shape == (SIDE, SIDE, 3)
    assert len({encode(pixels) for pixels in first}) == 4


def test_bars_are_as_high_as_their_values() -> None:
    pixels = draw(CHART).astype(int)
    green = (pixels[..., 1] - pixels[..., 0] > 60) & (pixels[..., 1] - pixels[..., 2] > 60)
    blue = (pixels[..., 2] - pixels[..., 0] > 90) & (pixels[..., 2] - pixels[..., 1] > 60)
    assert green.any(axis=1).sum() / blue.any(axis=1).sum() == pytest.approx(9 / 2, rel=0.15)


def test_scenes_are_asked_about_in_two_ways() -> None:
    seen = answers(SCENE, "vqa")
    assert seen["how many things are there?"] == "3"
    assert seen["how many red things are there?"] == "2"
    assert seen["which colour is the star?"] == "red"
    assert seen["which shape is the blue thing?"] == "cross"
    assert "which shape is the red thing?" not in seen
    found = answers(SCENE, "grounding")
    assert found["which row holds the red circle?"] == "2"
    assert found["which column holds the red circle?"] == "3"
    assert found["which shape is in the box?"] == "cross"


def test_charts_figures_and_words_are_asked_about() -> None:
    told = answers(CHART, "chart")
    assert told["which colour has the most?"] == "green"
    assert told["which colour has the least?"] == "blue"
    assert told["which value has red?"] == "4"
    assert "which value has red?" not in answers(pie(4, 9, 2), "chart")
    assert answers(figure("angle", 60, 0), "geometry") == {"how many degrees has the angle?": "60"}
    word = Word(letters="AKE", font="DejaVuSans", colour="red", size=22, shift=(0, 0))
    assert answers(word, "ocr") == {
        "which letter is first?": "A",
        "which letter is second?": "K",
        "which letter is third?": "E",
    }
    assert answers(SCENE, "describe")["is there anything green?"] == "no"
    assert caption(SCENE) == "a scene of red star, red circle, blue cross"


def test_every_answer_is_among_its_choices_and_begins_alone() -> None:
    rng = np.random.default_rng(2)
    for task in TASKS:
        kinds = KINDS if task not in CAPABILITIES else (CAPABILITIES[task],)
        for kind in kinds:
            for _ in range(20):
                for question in questions_about(draw_picture(rng, kind, "train"), task):  # type: ignore[arg-type]
                    assert question.answer in question.choices
                    assert len(set(question.choices)) == len(question.choices) <= 10


def test_a_library_comes_back_with_the_same_bytes(tmp_path: Path) -> None:
    asked = Asked(
        split="test",
        task="vqa",
        name="test/vqa-0000.png",
        questions=questions_about(SCENE, "vqa"),
        data=encode(draw(SCENE)),
    )
    for name in ("a.zip", "b.zip"):
        write_library(tmp_path / name, [asked])
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    assert read_library(tmp_path / "a.zip") == (asked,)


def test_a_library_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="not the capability zoo's pictures"):
        read_library(tmp_path / "none.zip")


def test_shipped_pictures_are_held_out_and_asked_about_evenly() -> None:
    shipped = read_library()
    counts = Counter((one.split, one.task) for one in shipped)
    assert {task for _, task in counts} == set(TASKS)
    assert len(set(counts[split, task] for split, task in counts if split == "test")) == 1
    assert all(one.questions for one in shipped)


def test_the_corpus_holds_every_word_of_questions_and_replies() -> None:
    words = {word for sentence in corpus() for word in sentence.split()}
    assert {"grounding", "joint"}.isdisjoint(words)
    assert {"parallel", "150", "column", "describe", "third?", "purple"} <= words


def test_every_member_has_a_training_and_the_upper_bound_sees_everything() -> None:
    config = config_of("capability-joint-lora", Path("base"), 0)
    (stage,) = config["stages"]  # type: ignore[misc]
    assert stage["data"]["files"] == [f"{task}.jsonl" for task in CAPABILITIES]  # type: ignore[index]
    assert stage["connector_learning_rate"] == 0.0  # type: ignore[index]
    assert json.dumps(config_of("capability-base", Path("start"), 0))
    assert len(STAGES) == 2 + 2 * 6


def test_an_unknown_member_is_told(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="'capability-vqa' is no member"):
        train_capabilities(tmp_path, ["capability-vqa"])
