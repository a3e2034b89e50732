"""A benchmark whose questions and media lie in a folder that the user got from its authors."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from omnicompose.errors import EvaluationError
from omnicompose.evaluation.line import text_sha256
from omnicompose.evaluation.sample import Medium, Sample, Shown, file_sha256
from omnicompose.evaluation.task import TaskSpec

Read = Callable[[Path], Iterable[Sample]]
"""Takes the benchmark's folder; gives its questions in the order of the file."""
LETTER_REQUEST = "\nAnswer with the option's letter from the given choices directly."
"""What the field appends to a question with lettered options."""
WORD_REQUEST = "\nAnswer the question using a single word or phrase."
"""What the field appends to a question with a short answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileTask:
    """A benchmark read from a folder.

    Attributes:
        spec: what it is; `spec.layout` is what the folder must hold.
        read: gives the questions.
        folder: where its data lie; None until `at` says.
    """

    spec: TaskSpec
    read: Read
    folder: Path | None = None

    @property
    def folder_name(self) -> str:
        """Of its data below `--data`: all of one benchmark's tasks share one."""
        return self.spec.name.split("/")[0]

    def at(self, data_dir: Path) -> "FileTask":
        """The same benchmark with its data in `data_dir/NAME`."""
        return replace(self, folder=data_dir / self.folder_name)

    def samples(self, media_dir: Path, limit: int | None) -> list[Sample]:
        """All questions; media are not opened yet.

        Raises:
            EvaluationError: no folder is named, a file is missing or is not what it should be.
        """
        folder = self._checked_folder()
        return list(self.read(folder))

    def digests(self) -> dict[str, str]:
        """Sha256 of the annotations by name, of many files of their listing; lines hold media's."""
        folder, found = self._checked_folder(), {}
        for pattern in self.spec.layout:
            files = [path for path in sorted(folder.glob(pattern)) if path.is_file()]
            if len(files) == 1:
                found[files[0].name] = file_sha256(files[0])
            elif files:
                listing = "".join(f"{file_sha256(path)}  {path.name}\n" for path in files)
                found[pattern] = text_sha256(listing)
        return found

    def _checked_folder(self) -> Path:
        spec, folder = self.spec, self.folder
        advice = f"Get the data from {spec.location}, and name the folder above with --data."
        if folder is None or not folder.is_dir():
            found = "no folder is named" if folder is None else f"{folder} is no folder"
            raise EvaluationError(
                f"{spec.name}: {found}; expected {self.folder_name}/ with "
                f"{', '.join(spec.layout)}. {advice}"
            )
        for pattern in spec.layout:
            if next(folder.glob(pattern), None) is None:
                raise EvaluationError(f"{spec.name}: {folder} holds no {pattern}. {advice}")
        if spec.checksum is not None and _sha256(folder, spec) != spec.checksum:
            raise EvaluationError(
                f"{spec.name}: {folder / spec.layout[0]} is another file than the one that was "
                f"published: found sha256 {_sha256(folder, spec)}, expected {spec.checksum}. "
                f"{advice}"
            )
        return folder


def shown(modality: str, path: Path, caption: str | None = None) -> Shown:
    """A place for a medium that lies on disk and is not opened yet."""
    return Shown(medium=Medium(modality=modality, path=path), caption=caption)


def clip_with_sound(path: Path, sound: Path | None = None) -> tuple[Shown, Shown]:
    """A clip, and its sound: from a file of its own if there is one, else from the clip itself."""
    separate = sound if sound is not None and sound.is_file() else path
    return shown("video", path), shown("audio", separate)


def without_letter(option: str) -> str:
    """`B. a violin` without its letter."""
    return re.sub(r"^\s*\(?[A-J][.):]\s*", "", option)


def _sha256(folder: Path, spec: TaskSpec) -> str:
    return file_sha256(next(folder.glob(spec.layout[0])))
