"""Embeddings of media, computed once per content: by any number of questions and subsets.

T embeddings of one medium, D width of the LLM
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

from omnicompose.evaluation.sample import Medium

CACHE_BYTES = 2 << 30
ENCODE_BATCH = 32

Held = TypeVar("Held")


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """What prompts need of one medium.

    Attributes:
        embedding: `[T, D]`.
        places: `[4, T]` where they stand; see `omnicompose.modeling.positions`.
        text: how the medium is written, a placeholder for each run of its embeddings. Families
            write tokens of their own between runs.
        runs: embeddings of each.
    """

    embedding: torch.Tensor
    places: torch.Tensor
    text: str
    runs: tuple[int, ...]


Encode = Callable[[Sequence[Medium]], list[Embedded]]
"""What an encoder makes of media of one modality."""


class SizedCache(Generic[Held]):
    """Things by name, the least recently used dropped at a limit."""

    def __init__(self, max_bytes: int = CACHE_BYTES) -> None:
        """Keep up to `max_bytes`, and always the newest."""
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._held: OrderedDict[str, tuple[Held, int]] = OrderedDict()

    def get(self, name: str) -> Held | None:
        """The thing of that name, if it is still there."""
        if name not in self._held:
            return None
        self._held.move_to_end(name)
        return self._held[name][0]

    def put(self, name: str, thing: Held, num_bytes: int) -> None:
        """Keep a thing of so many bytes under a name that is new."""
        self._held[name] = thing, num_bytes
        self._num_bytes += num_bytes
        while self._num_bytes > self._max_bytes and len(self._held) > 1:
            self._num_bytes -= self._held.popitem(last=False)[1][1]


class EmbeddingCache:
    """Embeddings by the digest of their medium.

    Attributes:
        num_encoded: media that went through an encoder so far.
    """

    def __init__(self, encode: Encode, max_bytes: int = CACHE_BYTES) -> None:
        """Keep up to `max_bytes` of what `encode` returns; it raises for unreadable media."""
        self.num_encoded = 0
        self._encode = encode
        self._cache: SizedCache[Embedded] = SizedCache(max_bytes)

    def embed(self, media: Sequence[Medium]) -> dict[str, Embedded | str]:
        """Per digest what the encoder made of the medium, or why it cannot be read."""
        wanted = {medium.sha256: medium for medium in media}
        cached = {digest: self._cache.get(digest) for digest in sorted(wanted)}
        found: dict[str, Embedded | str] = {k: v for k, v in cached.items() if v is not None}
        absent = [wanted[digest] for digest, held in cached.items() if held is None]
        for modality in sorted({medium.modality for medium in absent}):
            kind = [medium for medium in absent if medium.modality == modality]
            for start in range(0, len(kind), ENCODE_BATCH):
                found |= self._encode_batch(kind[start : start + ENCODE_BATCH])
        return found

    def _encode_batch(self, media: Sequence[Medium]) -> dict[str, Embedded | str]:
        try:
            embedded = self._encode(media)
        # Whatever a decoder raises is that medium's own failure: found one by one, recorded with
        # the question, counted, and never replaced by another medium.
        except Exception as err:
            if len(media) > 1:
                return {k: v for medium in media for k, v in self._encode_batch([medium]).items()}
            return {media[0].sha256: f"{type(err).__name__}: {media[0].path}: {err}"}
        self.num_encoded += len(media)
        fresh = {m.sha256: e for m, e in zip(media, embedded, strict=True)}
        for digest, one in fresh.items():
            self._cache.put(digest, one, one.embedding.nbytes)
        return {**fresh}
