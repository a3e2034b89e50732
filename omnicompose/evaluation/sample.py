"""One question of a benchmark: what is shown, what is asked, what is right."""

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

LETTERS = "ABCDEFGHIJ"
MODALITY_ORDER = ("image", "audio", "video", "point")
"""In this order modalities are named in labels such as `image+audio+video`."""
Reading = Literal["letters", "yesno", "words", "mention", "caption"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Medium:
    """A picture, sound or clip on disk.

    Attributes:
        modality: what it is.
        path: the file, in a format that the processor reads.
        sha256: of the file's bytes; media of one digest are encoded once. Empty: not read yet, so
            that a benchmark of a hundred thousand clips is listed without opening one.
    """

    modality: str
    path: Path
    sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A place in the prompt where a medium stands, or text in its stead.

    Attributes:
        medium: what stands there.
        caption: what replaces it in the caption oracle, framed as the template frames the medium;
            None where the benchmark ships no captions.
        swapped: another question's medium of this modality; None unless that is asked for.
        blank: a medium of the same size with nothing in it; None unless that is asked for.
        frame: texts before and behind the medium that go when it goes.
    """

    medium: Medium
    caption: str | None = None
    swapped: Medium | None = None
    blank: Medium | None = None
    frame: tuple[str, str] = ("", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The place in the prompt where the options stand, so that they can change places.

    Attributes:
        style: of one option, with `{letter}` and `{choice}`.
        separator: between two options; None: they stand as Python prints a list of texts.
    """

    style: str = "{letter}. {choice}"
    separator: str | None = "\n"

    def text(self, choices: tuple[str, ...]) -> str:
        """The options in their order."""
        lines = [
            self.style.format(letter=letter, choice=choice)
            for letter, choice in zip(LETTERS, choices, strict=False)
        ]
        return str(lines) if self.separator is None else self.separator.join(lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Worded:
    """A text that names what is given, and so changes with it.

    Attributes:
        texts: by label of the modalities given (`image+audio`).
        otherwise: for all other subsets.
    """

    texts: tuple[tuple[str, str], ...]
    otherwise: str

    def text(self, label: str) -> str:
        """The text for one subset."""
        return dict(self.texts).get(label, self.otherwise)


Part = Shown | Options | Worded | str


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
        reading: how a generated reply is understood (`replies.READERS`); `letters`: it chooses one
            of the options shown.
        category: the benchmark's own name for this kind of question; empty without.
    """

    id: str
    cluster: str
    content: tuple[Part, ...] = field(repr=False)
    choices: tuple[str, ...]
    answer: int
    openings: tuple[str, ...] = ()
    reading: Reading = "letters"
    category: str = ""

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
    def target(self) -> str:
        """The label of the right option."""
        return option_label(self.choices, self.answer)

    @property
    def has_letter_score(self) -> bool:
        """Whether the options can be told apart by the first token of a reply."""
        return self.reading in ("letters", "yesno")

    @property
    def can_rotate(self) -> bool:
        """Whether the options are shown, and so can change places."""
        return any(isinstance(part, Options) for part in self.content)

    def rotated(self, places: int) -> "Sample":
        """The same question with its options moved up by so many places, the first ones last."""
        return replace(
            self,
            choices=_moved(self.choices, places),
            openings=_moved(self.openings, places),
            answer=(self.answer - places) % len(self.choices),
        )


def option_label(choices: tuple[str, ...], index: int) -> str:
    """What an option is called in lines and tables: its letter, or its words if letters run out."""
    return LETTERS[index] if len(choices) <= len(LETTERS) else choices[index]


def _moved(values: tuple[str, ...], places: int) -> tuple[str, ...]:
    return (*values[places:], *values[:places])


def file_sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_medium(modality: str, path: Path) -> Medium:
    """A medium from a file that is hashed now; a file that is missing fails when it is encoded."""
    digest = file_sha256(path) if path.is_file() else f"missing:{path}"
    return Medium(modality=modality, path=path, sha256=digest)
