"""Embeddings of media, computed once per content: by any number of questions and subsets."""

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch

from omnicompose.evaluation.sample import Medium

CACHE_BYTES = 2 << 30
ENCODE_BATCH = 32

Encode = Callable[[Sequence[Medium]], list[torch.Tensor]]
"""Media of one modality to their embeddings `[T, D]`."""


class EmbeddingCache:
    """Embeddings by the digest of their medium, the least recently used dropped at a limit.

    Attributes:
        num_encoded: media that went through an encoder so far.
    """

    def __init__(self, encode: Encode, max_bytes: int = CACHE_BYTES) -> None:
        """Keep up to `max_bytes` of what `encode` returns; it raises for unreadable media."""
        self.num_encoded = 0
        self._encode = encode
        self._max_bytes = max_bytes
        self._held: OrderedDict[str, torch.Tensor] = OrderedDict()
        self._held_bytes = 0

    def embed(self, media: Sequence[Medium]) -> dict[str, torch.Tensor | str]:
        """Per digest the medium's embeddings `[T, D]`, or why it cannot be read."""
        wanted = {medium.sha256: medium for medium in media}
        found: dict[str, torch.Tensor | str] = {}
        for digest in wanted.keys() & self._held.keys():
            self._held.move_to_end(digest)
            found[digest] = self._held[digest]
        absent = [wanted[digest] for digest in sorted(wanted.keys() - found.keys())]
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
        self._keep(fresh)
        return {**fresh}

    def _keep(self, fresh: dict[str, torch.Tensor]) -> None:
        for digest, embedding in fresh.items():
            self._held[digest] = embedding
            self._held_bytes += embedding.nbytes
        while self._held_bytes > self._max_bytes:
            _, oldest = self._held.popitem(last=False)
            self._held_bytes -= oldest.nbytes
