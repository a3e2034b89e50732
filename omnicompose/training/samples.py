"""The dataset of one stage: tokens of every record, and its media as the model takes them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

import torch
from torch.utils.data import Dataset

from omnicompose.modeling.router import encode_by_shape
from omnicompose.training.preparing import (
    TOKEN_INPUTS,
    UNSEEN,
    MediaInput,
    MediaInputs,
    Prepared,
    Preparer,
    prepare_all,
)
from omnicompose.training.records import Record

Sample = Mapping[str, MediaInput]
_CHUNK = 64


class Samples(Dataset[Sample]):
    """Records as model inputs.

    Media are kept in memory while they fit, preprocessed or, where the encoder is frozen, as its
    features; media of the same files are kept once. What does not fit is preprocessed again.
    """

    def __init__(self, preparer: Preparer, records: Sequence[Record], memory_bytes: int) -> None:
        """Prepare every record.

        Raises:
            TrainingError: one error that lists every record that cannot be used.
        """
        self._preparer = preparer
        self._media: dict[object, MediaInputs] = {}
        self._keeps_all = True
        self.prepared: list[Prepared] = []
        room = memory_bytes
        for prepared, media in prepare_all(preparer, records):
            self.prepared.append(prepared)
            if prepared.record.media not in self._media:
                room -= num_bytes(media)
                if room >= 0:
                    self._media[prepared.record.media] = media
        if room < 0:
            self._keeps_all = False
            self._media.clear()

    def __len__(self) -> int:
        """Records."""
        return len(self.prepared)

    def __getitem__(self, index: int) -> Sample:
        """Tokens `[L]` and media `[n, ...]` of one record."""
        prepared = self.prepared[index]
        return {**prepared.tokens, **self._media_of(prepared.record)}

    @property
    def lengths(self) -> list[int]:
        """Tokens of every record."""
        return [len(one) for one in self.prepared]

    def encode_media(self, memory_bytes: int) -> bool:
        """Put features in the place of preprocessed media; whether they are there now.

        They are not where an input's encoder cannot be left out, or where they would not fit.
        """
        frontends = self._preparer.subject.frontends
        names = {name for one in self._some_media() for name in one}
        if not names or not names <= set(frontends):
            return False
        distinct = list({one.record.media: one.record for one in self.prepared}.values())
        encoded: dict[object, MediaInputs] = {}
        for chunk in _chunks(distinct):
            media = [self._media_of(record) for record in chunk]
            features = self._features(media)
            encoded |= zip((record.media for record in chunk), features, strict=True)
            expected = sum(map(num_bytes, encoded.values())) * len(distinct) / len(encoded)
            if expected > memory_bytes:
                return False
        self._media, self._keeps_all = encoded, True
        return True

    def _some_media(self) -> Iterator[MediaInputs]:
        """Media of the first record of every kind."""
        seen = {tuple(name for name, _ in p.record.media): p.record for p in self.prepared}
        yield from map(self._media_of, seen.values())

    def _media_of(self, record: Record) -> MediaInputs:
        if not record.media:
            return {}
        kept = self._media.get(record.media)
        return self._preparer.media(record) if kept is None else kept

    def _features(self, media: Sequence[MediaInputs]) -> list[MediaInputs]:
        """Features of a chunk's media; those of one shape are encoded together."""
        frontends = self._preparer.subject.frontends
        features: list[dict[str, MediaInput]] = [{} for _ in media]
        for name in {name for one in media for name in one}:
            places = [place for place, one in enumerate(media) if name in one]
            flat = [medium for place in places for medium in media[place][name]]
            encoded = iter(encode_by_shape(flat, frontends[name].features))
            for place in places:
                count = len(media[place][name])
                features[place][name] = joined(list(islice(encoded, count)))
        return list(features)


def joined(tensors: Sequence[torch.Tensor]) -> MediaInput:
    """`[n, ...]` where all have one shape; else the list."""
    one_shape = len({tensor.shape for tensor in tensors}) == 1
    return torch.stack(list(tensors)) if one_shape else list(tensors)


def collate(samples: Sequence[Sample], pad_token_id: int) -> dict[str, MediaInput]:
    """Samples padded on the right to one length, their media one after the other.

    Args:
        samples: `[L]` per token input and `[n, ...]` per media input.
        pad_token_id: of the tokenizer.

    Returns:
        `[B, L]` per token input, an `attention_mask` among them, and `[sum n, ...]` per media
        input, or a list where shapes differ.
    """
    length = max(len(_tensor(sample["input_ids"])) for sample in samples)
    fillers = {"input_ids": pad_token_id, "labels": UNSEEN}
    batch: dict[str, MediaInput] = {}
    for name in {name: None for sample in samples for name in sample}:
        values = [sample[name] for sample in samples if name in sample]
        if name in ("labels", *TOKEN_INPUTS):
            batch[name] = _padded([_tensor(v) for v in values], length, fillers.get(name, 0))
        else:
            batch[name] = _concatenated(values)
    lengths = torch.tensor([len(_tensor(sample["input_ids"])) for sample in samples])
    batch["attention_mask"] = (torch.arange(length) < lengths[:, None]).long()
    return batch


def num_bytes(media: object) -> int:
    """Memory of a record's media, however nested."""
    if isinstance(media, torch.Tensor):
        return media.nbytes
    parts = media.values() if isinstance(media, Mapping) else media
    assert isinstance(parts, Iterable)
    return sum(map(num_bytes, parts))


def _concatenated(values: Sequence[MediaInput]) -> MediaInput:
    tensors = [v for v in values if isinstance(v, torch.Tensor)]
    if len(tensors) == len(values) and len({tensor.shape[1:] for tensor in tensors}) == 1:
        return torch.cat(tensors)
    return [tensor for value in values for tensor in value]


def _padded(rows: Sequence[torch.Tensor], length: int, filler: int) -> torch.Tensor:
    pad = torch.nn.functional.pad
    return torch.stack([pad(row, (0, length - len(row)), value=filler) for row in rows])


def _tensor(value: MediaInput) -> torch.Tensor:
    assert isinstance(value, torch.Tensor)
    return value


def _chunks(records: Sequence[Record]) -> Iterator[Sequence[Record]]:
    for start in range(0, len(records), _CHUNK):
        yield records[start : start + _CHUNK]
