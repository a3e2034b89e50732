"""The zoo's lessons as records to train on: a JSONL file, and media files beside it.

    pool = MediaPool.make("audio", folder / "media", count=8000, seed=0)
    write_records(folder, lessons, pool, rng)

Media are drawn by training hands and spoken by training voices, never by those that score.
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self, cast

import numpy as np

from omnicompose.errors import MediaError
from omnicompose.zoo.lessons import Lesson
from omnicompose.zoo.media import SUFFIXES, encode
from omnicompose.zoo.rendering import balanced_items, render_training
from omnicompose.zoo.world import Item, make_item

RECORDS_NAME, INDEX_NAME = "records.jsonl", "index.json"


@dataclass(frozen=True, kw_only=True, eq=False)
class MediaPool:
    """Training media of one modality as files, to be found by the item that they show.

    Attributes:
        folder: where they lie, numbered.
        items: what each shows; every item as often as any other (give or take one).
    """

    folder: Path
    items: tuple[Item, ...]

    @classmethod
    def make(cls, modality: str, folder: Path, *, count: int, seed: int) -> Self:
        """Render media, or take those that an earlier call for the same left whole.

        Args:
            modality: image, audio or video.
            folder: gets one file per medium and, at last, an index.
            count: how many.
            seed: of what they show and how.
        """
        index = folder / INDEX_NAME
        found = _read_index(index)
        if found.get("asked") == [modality, count, seed]:
            shown = cast(list[dict[str, int]], found["shown"])
            return cls(folder=folder, items=tuple(make_item(modality, **v) for v in shown))
        folder.mkdir(parents=True, exist_ok=True)
        # A stream of its own: media that no encoder was trained on, only hands and voices.
        rng = np.random.default_rng([seed, 1])
        pool = cls(folder=folder, items=tuple(balanced_items(rng, modality, count)))
        for place, item in enumerate(pool.items):
            pool.path(place).write_bytes(encode(modality, render_training(rng, item)))
        content = {
            "asked": [modality, count, seed],
            "shown": [dict(item.values) for item in pool.items],
        }
        partial = index.with_name(f".{INDEX_NAME}")
        partial.write_text(json.dumps(content), encoding="utf-8")
        partial.replace(index)
        return pool

    def path(self, place: int) -> Path:
        """The file of a medium."""
        return self.folder / f"{place:05d}{SUFFIXES[self.items[place].modality]}"

    @cached_property
    def places(self) -> Mapping[Item, tuple[int, ...]]:
        """Where the media are that show an item."""
        found: dict[Item, list[int]] = {}
        for place, item in enumerate(self.items):
            found.setdefault(item, []).append(place)
        return {item: tuple(places) for item, places in found.items()}

    def choose(self, item: Item, rng: np.random.Generator) -> Path:
        """The file of one of the media that show `item`, at random.

        Raises:
            MediaError: none shows it.
        """
        places = self.places.get(item, ())
        if not places:
            raise MediaError(
                f"{self.folder}: no medium shows {item}; {len(self.items)} media show "
                f"{len(self.places)} different items. Make more media."
            )
        return self.path(places[int(rng.integers(len(places)))])


def _read_index(path: Path) -> dict[str, object]:
    """What an earlier call left whole; nothing where it left none, or another version did."""
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found if isinstance(found, dict) else {}


def write_records(
    path: Path, lessons: Iterable[Lesson], pool: MediaPool | None, rng: np.random.Generator
) -> None:
    """Write lessons as records of `omnicompose train`.

    Args:
        path: the JSONL file; paths of media start from its folder.
        lessons: the chats.
        pool: media of the items that lessons show; None where they show none.
        rng: chooses among media of one item.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as stream:
        for lesson in lessons:
            messages = _with_paths(lesson, pool, path.parent, rng)
            stream.write(json.dumps({"messages": messages}) + "\n")


def _with_paths(
    lesson: Lesson, pool: MediaPool | None, folder: Path, rng: np.random.Generator
) -> list[dict[str, object]]:
    """The messages, with a file for each medium."""
    shown = iter(lesson.media)
    messages: list[dict[str, object]] = []
    for message in lesson.messages:
        content = message["content"]
        if isinstance(content, list):
            items: list[dict[str, str]] = []
            for entry in content:
                if entry["type"] != "text":
                    assert pool is not None
                    path = os.path.relpath(pool.choose(next(shown), rng), folder)
                    entry = {"type": entry["type"], "path": path}
                items.append(entry)
            messages.append({"role": message["role"], "content": items})
        else:
            messages.append(dict(message))
    return messages
