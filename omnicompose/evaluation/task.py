"""What a benchmark declares, and the one thing that it does: give its questions."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from omnicompose.evaluation.sample import Sample

NOT_PUBLISHED = "not published; run.json records the sha256 of the files that were read"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSpec:
    """Everything that `omnicompose evaluate --tasks list` prints about a benchmark.

    Attributes:
        name: the word after `--tasks`.
        version: raised whenever a question or a prompt byte changes; part of every cache key.
        summary: one line.
        location: where the data come from.
        licence: of the data.
        cluster_field: what makes questions dependent on one another.
        prompt: the user turn, with a note on every byte that matters.
        chance: accuracy of guessing, in [0, 1].
        official: the rule by which the benchmark's authors score a generated reply, of
            `official.OFFICIAL`; None where it is ours.
        max_new_tokens: length of a generated reply.
        layout: the files that its folder must hold, as globs; empty: it brings its own data.
        checksum: sha256 of the first of them, held against the file; None where none is known.
        citation: where it is described.
    """

    name: str
    version: int
    summary: str
    location: str
    licence: str
    cluster_field: str
    prompt: str
    chance: float
    official: str | None = None
    max_new_tokens: int = 16
    layout: tuple[str, ...] = ()
    checksum: str | None = None
    citation: str = ""

    def to_dict(self) -> dict[str, object]:
        """The fields as plain data, for `--json`."""
        return asdict(self) | {"checksum": self.checksum or NOT_PUBLISHED}


class Task(Protocol):
    """A benchmark."""

    @property
    def spec(self) -> TaskSpec:
        """What it is and where it comes from."""
        ...

    def samples(self, media_dir: Path, limit: int | None) -> Sequence[Sample]:
        """The questions, the same on every call and machine.

        Args:
            media_dir: a folder for media that the task brings along rather than finds on disk.
            limit: no more than so many per set of modalities will be asked. A task that draws
                its questions may stop there; one that reads them gives them all.
        """
        ...
