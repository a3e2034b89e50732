"""The zoo's world: a digit with attributes, seen in a picture, heard as a word, or seen moving."""

from dataclasses import dataclass

import numpy as np

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

SLOTS: dict[str, tuple[str, ...]] = {
    "number": NUMBERS,
    "colour": ("red", "green", "blue", "yellow"),
    "size": ("small", "big"),
    "level": ("low", "high"),
    "pace": ("slow", "fast"),
    "direction": ("left", "right", "up", "down"),
}
"""What an item can be asked about, and the words for it.

`level` is the height on the canvas in a picture and the pitch in a sound; `pace` is the speed of
speech in a sound and of motion in a clip.
"""

MODALITY_SLOTS: dict[str, tuple[str, ...]] = {
    "image": ("size", "colour", "number", "level"),
    "audio": ("number", "level", "pace"),
    "video": ("size", "colour", "number", "direction", "pace"),
}


@dataclass(frozen=True, slots=True)
class Item:
    """One thing of the world as one modality shows it.

    Attributes:
        modality: how it is shown.
        values: slot to the index of its word, for exactly the slots of that modality.
    """

    modality: str
    values: tuple[tuple[str, int], ...]

    def __getitem__(self, slot: str) -> int:
        """The index of this item's word for `slot`."""
        return dict(self.values)[slot]

    def word(self, slot: str) -> str:
        """The word that describes this item's `slot`."""
        return SLOTS[slot][self[slot]]


def make_item(modality: str, **values: int) -> Item:
    """An item with the given word index per slot; every slot of the modality must be named."""
    return Item(modality, tuple((slot, values[slot]) for slot in MODALITY_SLOTS[modality]))


def sample_item(rng: np.random.Generator, modality: str) -> Item:
    """An item whose slots are independent and uniform."""
    return make_item(
        modality,
        **{slot: int(rng.integers(len(SLOTS[slot]))) for slot in MODALITY_SLOTS[modality]},
    )
