"""Features of the zoo's frozen encoders, computed once: what experts are trained and tested on.

    bank = FeatureBank.make("audio", zoo_path("encoder-audio"), split="train", count=8000, seed=0)
    index = bank.choose(item, rng)           # a medium that shows `item`
    embeddings = connector(bank.features[[index]])

`split="train"` renders fresh media by training hands and voices (needs scikit-learn and
espeakng_loader); `split="held-out"` takes the media that ship, through their files. Both go
through the modality's transformers preprocessor. With `cache` the result is kept in that folder,
under a name that depends on everything it depends on.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from omnicompose.encoders.folder import CONFIG_NAME, WEIGHTS_NAME, read_encoder
from omnicompose.errors import MediaError
from omnicompose.zoo.draw import Split
from omnicompose.zoo.media import LIBRARY_PATH, Medium, Raw, decode, held_out_media
from omnicompose.zoo.preprocessing import preprocess
from omnicompose.zoo.rendering import balanced_items, render_training
from omnicompose.zoo.world import Item, make_item

_BATCH_SIZE = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureBank:
    """Encoded media of one modality, to be found by the item they show.

    Attributes:
        items: what each medium shows, `n` of them; every item of the modality is shown as often as
            any other (give or take one).
        clusters: per medium, which media it shares a hand or a voice with ("" when training).
        features: `[n, M, E]`, fp32: the frozen encoder's output, before any connector.
    """

    items: tuple[Item, ...]
    clusters: tuple[str, ...]
    features: torch.Tensor

    @classmethod
    def make(
        cls,
        modality: str,
        encoder_folder: Path,
        *,
        split: Split,
        count: int = 0,
        seed: int = 0,
        cache: Path | None = None,
    ) -> Self:
        """Encode media of `modality` by the encoder in `encoder_folder`.

        Args:
            modality: image, audio or video.
            encoder_folder: as `omnicompose.encoders.folder.read_encoder` reads it.
            split: train (fresh media) or held-out (those that ship; all of them).
            count: how many to render for training.
            seed: of the rendering.
            cache: a working folder to keep features in; None: compute them each time.
        """
        path = cache and cache / _cache_name(modality, encoder_folder, split, count, seed)
        if path and path.exists():
            return cls._read(path)
        encoder = read_encoder(encoder_folder)
        if split == "held-out":
            shown = [m for m in held_out_media().media if m.item.modality == modality]
            bank = cls._of_files(modality, encoder, shown)
        else:
            bank = cls._of_fresh(modality, encoder, count, seed)
        if path:
            bank._write(path)
        return bank

    @cached_property
    def indices(self) -> dict[Item, tuple[int, ...]]:
        """Where the media are that show an item."""
        found: dict[Item, list[int]] = {}
        for index, item in enumerate(self.items):
            found.setdefault(item, []).append(index)
        return {item: tuple(places) for item, places in found.items()}

    def choose(self, item: Item, rng: np.random.Generator) -> int:
        """The index of one of the media that show `item`, at random.

        Raises:
            MediaError: none shows it.
        """
        places = self.indices.get(item, ())
        if not places:
            raise MediaError(
                f"the feature bank shows no {item}; it holds {len(self.items)} media of "
                f"{len(self.indices)} different items. Make it with a larger count."
            )
        return places[int(rng.integers(len(places)))]

    @classmethod
    def _of_files(cls, modality: str, encoder: nn.Module, media: Sequence[Medium]) -> Self:
        features = _encode_all(modality, encoder, [decode(modality, m.data) for m in media])
        return cls(
            items=tuple(medium.item for medium in media),
            clusters=tuple(medium.cluster for medium in media),
            features=features,
        )

    @classmethod
    def _of_fresh(cls, modality: str, encoder: nn.Module, count: int, seed: int) -> Self:
        # A stream of its own: media that no encoder was trained on, only hands and voices.
        rng = np.random.default_rng([seed, 1])
        items = tuple(balanced_items(rng, modality, count))
        raw = [render_training(rng, item) for item in items]
        features = _encode_all(modality, encoder, raw)
        return cls(items=items, clusters=("",) * count, features=features)

    @classmethod
    def _read(cls, path: Path) -> Self:
        with safe_open(path, framework="pt") as file:
            index = json.loads(file.metadata()["index"])
            return cls(
                items=tuple(make_item(index["modality"], **values) for values in index["values"]),
                clusters=tuple(index["clusters"]),
                features=file.get_tensor("features"),
            )

    def _write(self, path: Path) -> None:
        index = {
            "modality": self.items[0].modality,
            "values": [dict(item.values) for item in self.items],
            "clusters": self.clusters,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({"features": self.features}, path, metadata={"index": json.dumps(index)})


@torch.no_grad()
def _encode_all(modality: str, encoder: nn.Module, raw: Sequence[Raw]) -> torch.Tensor:
    parts = [raw[start : start + _BATCH_SIZE] for start in range(0, len(raw), _BATCH_SIZE)]
    return torch.cat([encoder(preprocess(modality, part)) for part in parts])


def _cache_name(modality: str, encoder_folder: Path, split: Split, count: int, seed: int) -> str:
    digest = hashlib.sha256(f"{count} {seed}".encode())
    inputs = [encoder_folder / CONFIG_NAME, encoder_folder / WEIGHTS_NAME]
    for path in inputs + ([LIBRARY_PATH] if split == "held-out" else []):
        digest.update(path.read_bytes())
    return f"{modality}-{split}-{digest.hexdigest()[:16]}.safetensors"
