"""Embeddings of media, computed once per content: by any number of questions and subsets."""

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch

from omnicompose.evaluation.sample import Medium

CACHE_BYTES = 2 << 30
ENCODE_BATCH = 32

Encode = Callable[[Sequence[Medium]], list[torch.Tensor]]
"""Media of one modality to their embeddings `[T, D]`."""


class TensorCache:
    """Tensors by name, the least recently used dropped at a limit."""

    def __init__(self, max_bytes: int = CACHE_BYTES) -> None:
        """Keep up to `max_bytes`, and always the newest."""
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._held: OrderedDict[str, torch.Tensor] = OrderedDict()

    def get(self, name: str) -> torch.Tensor | None:
        """The tensor of that name, if it is still there."""
        if name not in self._held:
            return None
        self._held.move_to_end(name)
        return self._held[name]

    def put(self, name: str, tensor: torch.Tensor) -> None:
        """Keep a tensor under a name that is new."""
        self._held[name] = tensor
        self._num_bytes += tensor.nbytes
        while self._num_bytes > self._max_bytes and len(self._held) > 1:
            self._num_bytes -= self._held.popitem(last=False)[1].nbytes


class EmbeddingCache:
    """Embeddings by the digest of their medium.

    Attributes:
        num_encoded: media that went through an encoder so far.
    """

    def __init__(self, encode: Encode, max_bytes: int = CACHE_BYTES) -> None:
        """Keep up to `max_bytes` of what `encode` returns; it raises for unreadable media."""
        self.num_encoded = 0
        self._encode = encode
        self._cache = TensorCache(max_bytes)

    def embed(self, media: Sequence[Medium]) -> dict[str, torch.Tensor | str]:
        """Per digest the medium's embeddings `[T, D]`, or why it cannot be read."""
        wanted = {medium.sha256: medium for medium in media}
        cached = {digest: self._cache.get(digest) for digest in sorted(wanted)}
        found: dict[str, torch.Tensor | str] = {k: v for k, v in cached.items() if v is not None}
        absent = [wanted[digest] for digest, held in cached.items() if held is None]
        for modality in sorted({medium.modality for medium in absent}):
            kind = [medium for medium in absent if medium.modality == modality]
            for start in range(0, len(kind), ENCODE_BATCH):
                found |= self._encode_batch(kind[start : start + ENCODE_BATCH])
        return found

    def _encode_batch(self, media: Sequence[Medium]) -> dict[str, torch.Tensor | str]:
        try:
            embeddings = self._encode(media)
        # Whatever a decoder raises is that medium's own failure: found one by one, recorded with
        # the question, counted, and never replaced by another medium.
        except Exception as err:
            if len(media) > 1:
                return {k: v for medium in media for k, v in self._encode_batch([medium]).items()}
            return {media[0].sha256: f"{type(err).__name__}: {media[0].path}: {err}"}
        self.num_encoded += len(media)
        fresh = {m.sha256: e for m, e in zip(media, embeddings, strict=True)}
        for digest, embedding in fresh.items():
            self._cache.put(digest, embedding)
        return {**fresh}
