"""Media of the zoo's world: endless fresh ones for training, a balanced library held out."""

import itertools
from collections.abc import Iterator
from functools import cache

import numpy as np

from omnicompose.zoo.draw import Split, draw_clip, draw_picture, read_handwriting, vary_glyph
from omnicompose.zoo.media import SUFFIXES, MediaLibrary, Medium, Raw, decode, encode
from omnicompose.zoo.speak import Utterance, perform, read_utterances
from omnicompose.zoo.world import MODALITY_SLOTS, SLOTS, Item, make_item

HELD_OUT_REPEATS = {"image": 3, "audio": 10, "video": 1}
"""How many held-out media show each item: 480 pictures, 400 sounds, 640 clips."""


def all_items(modality: str) -> tuple[Item, ...]:
    """Every item that a modality can show, in a fixed order."""
    slots = MODALITY_SLOTS[modality]
    choices = itertools.product(*(range(len(SLOTS[slot])) for slot in slots))
    return tuple(make_item(modality, **dict(zip(slots, chosen, strict=True))) for chosen in choices)


def balanced_items(rng: np.random.Generator, modality: str, count: int) -> Iterator[Item]:
    """`count` items in random order, each item as often as any other (give or take one)."""
    items = all_items(modality)
    for start in range(0, count, len(items)):
        order = rng.permutation(len(items))[: count - start]
        yield from (items[index] for index in order)


def render_training(rng: np.random.Generator, item: Item) -> Raw:
    """A fresh medium that shows `item`, as it is once decoded, by training hands and voices."""
    if item.modality == "audio":
        choices = _utterances_of("train")[item]
        return perform(rng, choices[int(rng.integers(len(choices)))])
    handwriting = read_handwriting("train")
    index = int(rng.choice(handwriting.indices_of(item["number"])))
    return _draw(rng, item, vary_glyph(rng, handwriting.glyphs[index]))


def make_held_out_library(seed: int) -> MediaLibrary:
    """The held-out media: every item as often as HELD_OUT_REPEATS says.

    Unseen hands and voices take turns, so that clusters are of about equal size.
    """
    rng = np.random.default_rng(seed)
    media: list[Medium] = []
    for modality, repeats in HELD_OUT_REPEATS.items():
        turns = _deal(rng, modality)
        items = [item for item in all_items(modality) for _ in range(repeats)]
        for index, item in enumerate(items):
            cluster, raw = _render_held_out(rng, item, next(turns[item["number"]]))
            name = f"{modality}/{index:04d}{SUFFIXES[modality]}"
            medium = Medium(item=item, cluster=cluster, name=name, data=encode(modality, raw))
            media.append(medium)
    return MediaLibrary.of(media)


def _draw(rng: np.random.Generator, item: Item, glyph: np.ndarray) -> Raw:
    if item.modality == "image":
        return draw_picture(rng, item, glyph)
    return decode("video", encode("video", draw_clip(rng, item, glyph)))


def _deal(rng: np.random.Generator, modality: str) -> dict[int, Iterator[int]]:
    """Per number an endless shuffled round of numbers: whose turn it is."""
    handwriting = read_handwriting("held-out")
    rounds: dict[int, Iterator[int]] = {}
    for number in range(len(SLOTS["number"])):
        hands = handwriting.indices_of(number)
        rounds[number] = itertools.cycle(rng.permutation(hands).tolist())
    return rounds if modality != "audio" else {n: itertools.count() for n in rounds}


def _render_held_out(rng: np.random.Generator, item: Item, turn: int) -> tuple[str, Raw]:
    """The cluster and the medium, before the loss that encoding a clip brings."""
    if item.modality == "audio":
        choices = _utterances_of("held-out")[item]
        per_voice = len(choices) // len({utterance.voice for utterance in choices})
        voice_start = turn * per_voice % len(choices)
        utterance = choices[voice_start + int(rng.integers(per_voice))]
        return f"voice:{utterance.voice}", perform(rng, utterance)
    handwriting = read_handwriting("held-out")
    draw = draw_picture if item.modality == "image" else draw_clip
    cluster = f"handwriting:{handwriting.sample_ids[turn]}"
    return cluster, draw(rng, item, handwriting.glyphs[turn])


@cache
def _utterances_of(split: Split) -> dict[Item, tuple[Utterance, ...]]:
    """Utterances by item, those of one voice beside each other."""
    by_item: dict[Item, list[Utterance]] = {}
    for utterance in read_utterances(split):
        by_item.setdefault(utterance.item, []).append(utterance)
    return {item: tuple(found) for item, found in by_item.items()}
