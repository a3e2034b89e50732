"""Control media: another question's, of about the same size, or blank ones.

A swapped medium is never the question's own, whatever the seed: media are ordered by size (sounds
and clips of like length stand together), and each takes the place of one far enough along that it
must be another.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from omnicompose.errors import EvaluationError
from omnicompose.evaluation.derived import blank, opened
from omnicompose.evaluation.sample import Medium, Part, Sample, Shown

Change = Callable[[Shown], Shown]


def prepare_media(
    samples: Sequence[Sample], names: Sequence[str], media_dir: Path, seed: int
) -> list[Sample]:
    """Open every medium, and add the controls that `names` (of `parse_modalities`) ask for.

    Raises:
        EvaluationError: too few different media to swap.
    """
    ready = [_changed(sample, lambda shown: _opened(shown, media_dir)) for sample in samples]
    if "blank" in names:
        ready = [_changed(s, lambda shown: _with_blank(shown, media_dir)) for s in ready]
    return _swapped(ready, seed) if "swapped" in names else ready


def derangement(digests: Sequence[str], sizes: Sequence[int], seed: int) -> list[int]:
    """For each medium the place of another one with a different digest and about the same size.

    Args:
        digests: of the media.
        sizes: of their files, in bytes.
        seed: orders media of like size.

    Raises:
        EvaluationError: one medium is more than half of all, so that some would keep their own.
    """
    most = max(Counter(digests).values(), default=0)
    if 2 * most > len(digests):
        raise EvaluationError(
            f"--modalities swapped: one medium is shown {most} times in {len(digests)} questions; "
            "expected no more than half of them, so that each can get another one. "
            "Raise --limit, or leave swapped out."
        )
    tie = {digest: i for i, digest in enumerate(_shuffled(sorted(set(digests)), seed))}
    order = sorted(range(len(digests)), key=lambda i: (sizes[i].bit_length(), tie[digests[i]], i))
    donors = [0] * len(order)
    for place, i in enumerate(order):
        donors[i] = order[(place + most) % len(order)]
    return donors


def _shuffled(values: list[str], seed: int) -> list[str]:
    return [values[i] for i in np.random.default_rng(seed).permutation(len(values))]


def _swapped(samples: Sequence[Sample], seed: int) -> list[Sample]:
    """Within questions that show the same modalities, each place gets another question's medium."""
    places: dict[tuple[tuple[str, ...], str], list[tuple[int, int]]] = {}
    for i, sample in enumerate(samples):
        for j, part in enumerate(sample.content):
            if isinstance(part, Shown):
                places.setdefault((sample.modalities, part.medium.modality), []).append((i, j))
    contents = [list(sample.content) for sample in samples]
    for where in places.values():
        media = [_medium(samples, place) for place in where]
        donors = derangement([m.sha256 for m in media], [_size(m) for m in media], seed)
        for (i, j), donor in zip(where, donors, strict=True):
            part = contents[i][j]
            assert isinstance(part, Shown)
            contents[i][j] = replace(part, swapped=media[donor])
    return [replace(s, content=tuple(c)) for s, c in zip(samples, contents, strict=True)]


def _medium(samples: Sequence[Sample], place: tuple[int, int]) -> Medium:
    part = samples[place[0]].content[place[1]]
    assert isinstance(part, Shown)
    return part.medium


def _size(medium: Medium) -> int:
    return medium.path.stat().st_size if medium.path.is_file() else 0


def _opened(shown: Shown, media_dir: Path) -> Shown:
    return replace(shown, medium=opened(shown.medium, media_dir))


def _with_blank(shown: Shown, media_dir: Path) -> Shown:
    return replace(shown, blank=blank(shown.medium, media_dir))


def _changed(sample: Sample, change: Change) -> Sample:
    content: list[Part] = [change(p) if isinstance(p, Shown) else p for p in sample.content]
    return replace(sample, content=tuple(content))
