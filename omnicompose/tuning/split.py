"""The questions that the search may look at, and those that it may not."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from omnicompose.errors import TuningError
from omnicompose.tuning.questions import Asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Questions by task; no cluster of questions has a part in both.

    Attributes:
        name: how results call the validation part: share, seed, rule.
        validation: what the search looks at.
        test: what only the final comparison looks at.
    """

    name: str
    validation: Mapping[str, tuple[Asked, ...]]
    test: Mapping[str, tuple[Asked, ...]]

    def ids(self) -> dict[str, dict[str, list[str]]]:
        """Ids of both parts by task, for `omnicompose evaluate --samples`."""
        parts = {"validation": self.validation, "test": self.test}
        return {
            part: {task: [sample.id for sample in samples] for task, samples in tasks.items()}
            for part, tasks in parts.items()
        }


def make_split(tasks: Mapping[str, Iterable[Asked]], share: float, seed: int) -> Split:
    """Split by cluster: the sha256 of seed and cluster decides, whatever the order or number.

    Raises:
        TuningError: a part is empty.
    """
    parts: dict[bool, dict[str, tuple[Asked, ...]]] = {True: {}, False: {}}
    for task, samples in tasks.items():
        every = tuple(samples)
        for part in parts:
            parts[part][task] = tuple(s for s in every if (_draw(s.cluster, seed) < share) is part)
            if not parts[part][task]:
                raise TuningError(
                    f"{task}: none of its {len(every)} questions falls into the "
                    f"{'validation' if part else 'test'} part. Raise --limit, or change "
                    "--validation."
                )
    return Split(
        name=f"validation: {share:.0%} of the clusters of questions, by sha256 with seed {seed}",
        validation=parts[True],
        test=parts[False],
    )


def _draw(cluster: str, seed: int) -> float:
    digest = hashlib.sha256(f"{seed} {cluster}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
