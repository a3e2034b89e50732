"""An output folder in the making: files laid out at once, filled from any thread, renamed at last.

Everything happens in `.<name>.partial` beside the output, locked against a second process. Its
bytes survive a kill of the process in the page cache; after a power cut they may not, so a resumed
run trusts no mark in the journal before the bytes up to it have been hashed again.
"""

import errno
import fcntl
import os
import shutil
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from omnicompose.errors import MergeError
from omnicompose.tensors.digest import FileDigest, as_marked
from omnicompose.tensors.journal import (
    JOURNAL_NAME,
    Entries,
    Journal,
    Mark,
    check_same_plan,
    put_aside,
    read_journal,
    take_back,
)
from omnicompose.tensors.layout import INDEX_FILE, Layout
from omnicompose.tensors.output_file import OutputFile
from omnicompose.tensors.pieces import Piece

MOST_DIRECT_FILES = 128
"""More go through the page cache: 1024 may often be open, and direct writes take two each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where one output tensor goes.

    Attributes:
        file: number of the file in the layout.
        offset: of the tensor's first byte.
        num_bytes: of the tensor.
    """

    file: int
    offset: int
    num_bytes: int


def partial_folder(out_dir: Path) -> Path:
    """Where an output is made before it is complete."""
    return out_dir.parent / f".{out_dir.name}.partial"


class OutputFolder:
    """A folder of safetensors files that are being filled.

    Attributes:
        partial: the folder's path while it is not finished.
        digests: of every file, as far as an interrupted run had completed it.
        measures: what was measured, by tensor.
    """

    def __init__(self, out_dir: Path, layout: Layout, sizes: Mapping[str, int]) -> None:
        """Make and lock the partial folder; nothing is laid out yet.

        Args:
            out_dir: the finished folder to be.
            layout: its weight files.
            sizes: bytes of every tensor.

        Raises:
            MergeError: another process works on this output, or the folder cannot be made.
        """
        self._out_dir, self._layout, self._sizes = out_dir, layout, sizes
        self.partial = partial_folder(out_dir)
        self._files: list[OutputFile] = []
        self._journal: Journal | None = None
        self.digests: tuple[FileDigest, ...] = ()
        self.measures: dict[str, Mapping[str, float]] = {}
        self._lock = _lock(self.partial)

    def begin(self, jobs: Mapping[str, str], *, resume: bool) -> None:
        """Lay out all files, or take over those of an interrupted run.

        Args:
            jobs: hash of every job by output tensor.
            resume: keep tensors that marks of the journal tell of and whose bytes are still those.

        Raises:
            MergeError: the journal is of another plan, or the disk has no room.
        """
        try:
            take_back(self.partial)
            found = (read_journal(self.partial) if resume else None) or Entries(jobs=jobs)
            check_same_plan(self.partial, found.jobs, jobs)
            _clear(self.partial, keep=self._file_names() if found.marks else ())
            direct = len(self._layout.files) <= MOST_DIRECT_FILES
            for layout in self._layout.files:
                path = self.partial / layout.name
                self._files.append(OutputFile(path, layout, direct=direct))
            self.digests = tuple(self._digest(number, found.marks) for number in self._numbers())
            marks = tuple(digest.mark() for digest in self.digests if digest.num_tensors)
            self.measures.update(found.measures)
            kept = Entries(jobs=jobs, marks=marks, measures=found.measures)
            self._journal = Journal(self.partial / JOURNAL_NAME, kept)
        except OSError as error:
            raise write_error(self.partial, error) from error

    def _file_names(self) -> tuple[str, ...]:
        return (JOURNAL_NAME, *(file.name for file in self._layout.files))

    def _numbers(self) -> range:
        return range(len(self._layout.files))

    def _digest(self, number: int, marks: Iterable[Mark]) -> FileDigest:
        digest = FileDigest(self._layout.files[number], self._files[number].descriptor)
        name = digest.file.name
        return as_marked(digest, {m.num_tensors: m.sha256 for m in marks if m.file == name})

    def finished(self) -> frozenset[str]:
        """Tensors that an interrupted run has left complete."""
        return frozenset(
            tensor
            for digest in self.digests
            for tensor in islice(digest.file.offsets, digest.num_tensors)
        )

    def places(self) -> Mapping[str, Place]:
        """Where every tensor goes."""
        return {
            name: Place(
                file=number,
                offset=offset,
                num_bytes=self._sizes[name],
            )
            for number, file in enumerate(self._layout.files)
            for name, offset in file.offsets.items()
        }

    def write(self, piece: Piece) -> None:
        """Write a piece of a tensor.

        Raises:
            MergeError: the disk is full or fails.
        """
        try:
            self._files[piece.file].write(piece.data, piece.offset)
        except OSError as error:
            raise write_error(self.partial, error) from error

    def measured(self, tensor: str, measures: Mapping[str, float]) -> None:
        """Keep what was measured while a tensor was computed.

        Raises:
            MergeError: the disk is full or fails.
        """
        if not measures:
            return
        assert self._journal is not None
        try:
            self._journal.add_measures(tensor, measures)
        except OSError as error:
            raise write_error(self.partial, error) from error
        self.measures[tensor] = measures

    def note(self, mark: Mark) -> None:
        """Write into the journal how far a file is complete.

        Raises:
            OSError: the disk is full or fails.
        """
        assert self._journal is not None
        self._journal.add(mark)

    def seal(self) -> None:
        """Bring every byte to the disk and write the index; the name comes with `publish`.

        Raises:
            MergeError: the disk is full or fails.
        """
        try:
            for file in self._files:
                file.sync()
            if self._layout.index is not None:
                (self.partial / INDEX_FILE).write_text(self._layout.index, encoding="utf-8")
        except OSError as error:
            raise write_error(self.partial, error) from error

    def publish(self, *, overwrite: bool) -> None:
        """Give the folder its name in one step.

        Raises:
            MergeError: the name was taken meanwhile, or the disk fails.
        """
        check_free(self._out_dir, overwrite=overwrite)
        try:
            os.fsync(self._lock)
            # Kept until the name is given: were it refused, all that is finished would be lost.
            journal = put_aside(self.partial)
            _rename(self.partial, self._out_dir, overwrite=overwrite)
            journal.unlink()
        except OSError as error:
            with suppress(OSError):
                take_back(self.partial)
            raise write_error(self.partial, error) from error

    def close(self) -> None:
        """Close all files and give up the lock."""
        if self._journal is not None:
            self._journal.close()
        for file in self._files:
            file.close()
        os.close(self._lock)


def write_error(folder: Path, error: OSError) -> MergeError:
    """What to tell a user whose disk refuses."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return MergeError(
            f"{folder}: no room left ({error.strerror}); what is finished stays there. "
            "Free some space and run again with --resume."
        )
    return MergeError(
        f"{folder}: cannot be written ({error}); what is finished stays there. "
        "Check the disk and run again with --resume."
    )


def check_free(out_dir: Path, *, overwrite: bool) -> None:
    """Refuse an output that exists.

    Raises:
        MergeError: it exists and must not be replaced, or is no folder.
    """
    if out_dir.is_dir() and overwrite:
        return
    if out_dir.exists():
        kind = "a folder" if out_dir.is_dir() else "a file"
        raise MergeError(
            f"{out_dir}: found {kind} of that name; expected none. "
            "Choose another --out, or replace the folder with --overwrite."
        )


def _lock(partial: Path) -> int:
    try:
        partial.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(partial, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise MergeError(
            f"{partial}: cannot be made ({error.strerror}). Choose another --out."
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(descriptor), partial.stat()):
            raise OSError("renamed meanwhile")
    except OSError as error:
        os.close(descriptor)
        raise MergeError(
            f"{partial}: another process is writing this output; expected to be alone. "
            "Wait for it, or choose another --out."
        ) from error
    return descriptor


def _clear(folder: Path, keep: Collection[str]) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name not in keep:
            path.unlink()


def _rename(partial: Path, out_dir: Path, *, overwrite: bool) -> None:
    old = out_dir.parent / f".{out_dir.name}.old"
    if overwrite and out_dir.exists():
        shutil.rmtree(old, ignore_errors=True)
        out_dir.rename(old)
    # A folder is never renamed over one that holds files, so nothing can be lost here.
    partial.rename(out_dir)
    parent = os.open(out_dir.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)
    shutil.rmtree(old, ignore_errors=True)
