"""One question of a benchmark: what is shown, what is asked, what is right."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

LETTERS = "ABCDEFGHIJ"
MODALITY_ORDER = ("image", "audio", "video", "point")
"""In this order modalities are named in labels such as `image+audio+video`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Medium:
    """A picture, sound or clip on disk.

    Attributes:
        modality: what it is.
        path: the file, in a format that the processor reads.
        sha256: of the file's bytes; media of one digest are encoded once.
    """

    modality: str
    path: Path
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A place in the prompt where a medium stands, or text in its stead.

    Attributes:
        medium: what stands there.
        caption: what replaces it in the caption oracle, framed as the template frames the medium;
            None where the benchmark ships no captions.
    """

    medium: Medium
    caption: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One question, as its benchmark asks it.

    Attributes:
        id: unique within the task, stable for ever.
        cluster: questions with the same value are not independent (one clip asked about twice).
        content: media and texts of the one user turn, in order.
        choices: the options in the order of their letters.
        answer: index of the right one.
        openings: how a reply that chooses each option begins, where the benchmark's models say the
            option's words first; empty: with the option's letter.
    """

    id: str
    cluster: str
    content: tuple[Shown | str, ...] = field(repr=False)
    choices: tuple[str, ...]
    answer: int
    openings: tuple[str, ...] = ()

    @property
    def media(self) -> tuple[Medium, ...]:
        """Everything shown, in order."""
        return tuple(part.medium for part in self.content if isinstance(part, Shown))

    @property
    def modalities(self) -> tuple[str, ...]:
        """What the question shows, without repeats, in the order of labels."""
        given = {medium.modality for medium in self.media}
        return tuple(modality for modality in MODALITY_ORDER if modality in given)

    @property
    def has_captions(self) -> bool:
        """Whether every medium has a caption to stand in for it."""
        shown = [part for part in self.content if isinstance(part, Shown)]
        return bool(shown) and all(part.caption is not None for part in shown)

    @property
    def letters(self) -> str:
        """The letters of the options."""
        return LETTERS[: len(self.choices)]

    @property
    def target(self) -> str:
        """The letter of the right option."""
        return LETTERS[self.answer]


def file_sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_medium(modality: str, path: Path) -> Medium:
    """A medium from a file that is hashed now; a file that is missing fails when it is encoded."""
    digest = file_sha256(path) if path.is_file() else f"missing:{path}"
    return Medium(modality=modality, path=path, sha256=digest)
