"""Fresh media: the same by seed, faithful to their item, held-out hands never used in training."""

import multiprocessing
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest

from omnicompose.zoo import speak
from omnicompose.zoo.draw import draw_clip, draw_picture, read_handwriting, vary_glyph
from omnicompose.zoo.rendering import all_items, balanced_items, render_training
from omnicompose.zoo.world import make_item, sample_item


def ink_places(frames: np.ndarray) -> np.ndarray:
    """Where the light is, per frame: (row, column)."""
    light = np.where(frames > 60, frames, 0).sum(axis=-1).astype(float)
    total = light.sum(axis=(1, 2))
    rows = (light.sum(axis=2) * np.arange(32)).sum(axis=1) / total
    columns = (light.sum(axis=1) * np.arange(32)).sum(axis=1) / total
    return np.stack([rows, columns], axis=1)


def test_handwriting_is_split_without_overlap() -> None:
    train, held_out = read_handwriting("train"), read_handwriting("held-out")
    assert (len(train.numbers), len(held_out.numbers)) == (1300, 497)
    assert not set(train.sample_ids) & set(held_out.sample_ids)
    assert not set(speak.VOICES["train"]) & set(speak.VOICES["held-out"])


@pytest.mark.parametrize("modality", ["image", "video"])
def test_the_same_seed_draws_the_same_medium(modality) -> None:
    item = sample_item(np.random.default_rng(5), modality)
    one, two = (render_training(np.random.default_rng(7), item) for _ in range(2))
    assert np.array_equal(one, two)


@pytest.mark.parametrize("direction", range(4))
@pytest.mark.parametrize("pace", range(2))
def test_clips_move_as_their_item_says(direction, pace) -> None:
    item = make_item("video", size=0, colour=1, number=0, direction=direction, pace=pace)
    glyph = read_handwriting("train").glyphs[read_handwriting("train").indices_of(0)[0]]
    places = ink_places(draw_clip(np.random.default_rng(direction), item, glyph))
    down, right = (places[-1] - places[0]) / 5
    way = {"left": -right, "right": right, "up": -down, "down": down}[item.word("direction")]
    low, high = {"slow": (0.5, 1.4), "fast": (2.2, 3.3)}[item.word("pace")]
    assert low < way < high
    assert abs(down if item.word("direction") in ("left", "right") else right) < 0.2


def test_big_digits_cover_four_times_the_area_of_small_ones() -> None:
    glyph = np.ones((8, 8), np.float32)
    pictures = [
        draw_picture(
            np.random.default_rng(0), make_item("image", size=s, colour=1, number=0, level=0), glyph
        )
        for s in (0, 1)
    ]
    small, big = ((picture[..., 1] > 100).sum() for picture in pictures)
    assert (small, big) == (64, 256)


def test_varied_handwriting_stays_ink_of_the_same_size() -> None:
    rng = np.random.default_rng(0)
    for glyph in read_handwriting("train").glyphs[:20]:
        varied = vary_glyph(rng, glyph)
        assert varied.shape == glyph.shape
        assert 0 <= varied.min() <= varied.max() <= 1
        assert 0.4 < varied.sum() / glyph.sum() < 1.6


def test_balanced_items_show_each_item_equally_often() -> None:
    items = list(balanced_items(np.random.default_rng(0), "audio", 90))
    counts = Counter(items)
    assert set(counts) == set(all_items("audio"))
    assert set(counts.values()) == {2, 3}


def test_the_same_words_are_spoken_the_same_in_every_fresh_process() -> None:
    voices = speak.VOICES["held-out"][:1]
    context = multiprocessing.get_context("spawn")
    runs = []
    for _ in range(2):
        with ProcessPoolExecutor(1, mp_context=context) as fresh:
            runs.append(fresh.submit(speak._speak_all, voices, (3, 7)).result())
    assert len(runs[0]) == 2 * 2 * 2 * 9
    assert all(
        one.item == two.item and np.array_equal(one.waveform, two.waveform)
        for one, two in zip(*runs, strict=True)
    )


def test_slow_speech_lasts_longer_and_recordings_fit_a_second() -> None:
    spoken = speak._speak_all(speak.VOICES["train"][:1], (1, 6))
    for number in (1, 6):
        of_number = [u for u in spoken if u.item["number"] == number]
        slow = min(len(u.waveform) for u in of_number if u.item.word("pace") == "slow")
        fast = max(len(u.waveform) for u in of_number if u.item.word("pace") == "fast")
        assert slow > 1.3 * fast
    rng = np.random.default_rng(0)
    recordings = [speak.perform(rng, utterance) for utterance in spoken[::9]]
    assert all(len(recording) <= speak.NUM_SAMPLES for recording in recordings)
    assert all(recording.dtype == np.int16 for recording in recordings)
