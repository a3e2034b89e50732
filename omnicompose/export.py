"""What a written folder is made of: inputs and outputs with their hashes, and how to check them."""

import hashlib
import json
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Self

from omnicompose.errors import ExportError

MANIFEST_FILE = "manifest.json"
FORMAT = "omnicompose-manifest"
FORMAT_VERSION = 1
HASH_BLOCK_BYTES = 1 << 22
HUB_BLOB = re.compile(r"[0-9a-f]{64}")
LOADED_SUFFIXES = (".safetensors", ".safetensors.index.json", ".bin", ".py")
"""Files that loading a folder may read or run; none of them may be beside the manifest's list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRecord:
    """One file: where it lies, its size and sha256 (hexadecimal)."""

    path: str
    num_bytes: int
    sha256: str

    def to_json(self) -> dict[str, object]:
        """The record as the manifest holds it."""
        return {"path": self.path, "bytes": self.num_bytes, "sha256": self.sha256}


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """`manifest.json` of a written folder.

    Attributes:
        kind: `composite` or `merge`.
        recipe: what was asked for, defaults filled in.
        plan_sha256: digest of what was computed from what.
        inputs: weight files read.
        outputs: files written, without the manifest itself.
        facts: further facts about the result (placeholders, streams, lineage, ...).
    """

    kind: str
    recipe: dict[str, object]
    plan_sha256: str
    inputs: tuple[FileRecord, ...]
    outputs: tuple[FileRecord, ...]
    facts: dict[str, object]

    def to_json(self) -> dict[str, object]:
        """The manifest as written; it holds no time and no place, so equal work is equal bytes."""
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "kind": self.kind,
            "omnicompose": version("omnicompose"),
            "recipe": self.recipe,
            "plan_sha256": self.plan_sha256,
            "inputs": [record.to_json() for record in self.inputs],
            "outputs": [record.to_json() for record in self.outputs],
            "facts": self.facts,
        }

    def write(self, folder: Path) -> None:
        """Write `manifest.json` into `folder`."""
        text = json.dumps(self.to_json(), indent=1, ensure_ascii=False) + "\n"
        (folder / MANIFEST_FILE).write_text(text, encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the manifest of a folder.

        Raises:
            ExportError: there is none, or it is not one of ours.
        """
        path = folder / MANIFEST_FILE
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            if (data["format"], data["format_version"]) != (FORMAT, FORMAT_VERSION):
                raise ValueError(f"format {data['format']!r} {data['format_version']!r}")
            return cls(
                kind=data["kind"],
                recipe=data["recipe"],
                plan_sha256=data["plan_sha256"],
                inputs=_records(data["inputs"]),
                outputs=_records(data["outputs"]),
                facts=data["facts"],
            )
        except FileNotFoundError:
            raise ExportError(
                f"{folder}: no {MANIFEST_FILE}. Expected a folder written by `omnicompose compose` "
                "or `omnicompose merge`."
            ) from None
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ExportError(f"{path}: not a manifest of ours ({error!r}).") from error


def _records(data: Iterable[dict[str, object]]) -> tuple[FileRecord, ...]:
    return tuple(
        FileRecord(
            path=str(one["path"]), num_bytes=int(str(one["bytes"])), sha256=str(one["sha256"])
        )
        for one in data
    )


def refuse_existing(out: Path, *, overwrite: bool, resume: bool = False) -> None:
    """Refuse an output that exists, before any work and without a heavy import.

    Args:
        out: the folder to make; while it is made it has another name.
        overwrite: it may exist.
        resume: an interrupted run was meant to go on there.

    Raises:
        ExportError: it exists and is not to be overwritten.
    """
    if resume and not overwrite and (out / MANIFEST_FILE).is_file():
        raise ExportError(
            f"{out}: is finished, there is nothing to resume. Leave it as it is, name another "
            "folder, or replace it with --overwrite."
        )
    if out.exists() and not overwrite:
        raise ExportError(
            f"{out}: exists already. Name another folder, or replace it with --overwrite."
        )


def hash_folder(
    folder: Path, suffixes: tuple[str, ...] = ("",), label: str = ""
) -> tuple[FileRecord, ...]:
    """Records of the files in and below a folder, hashed two at a time, sorted by name.

    Args:
        folder: where they lie, or one file. What is hidden below it is left out, such as a merge
            that is being written there.
        suffixes: how the names of those wanted end; by default all.
        label: goes before their names, so that records name no place on this machine.
    """
    single = folder.is_file()
    root = folder.parent if single else folder
    every = [folder] if single else sorted(path for path in folder.rglob("*") if path.is_file())
    paths = [
        path
        for path in every
        if path.name.endswith(suffixes)
        and (single or not any(part.startswith(".") for part in path.relative_to(root).parts))
    ]
    with ThreadPoolExecutor(2) as pool:
        return tuple(pool.map(lambda path: _record(path, root, label), paths))


def _record(path: Path, root: Path, label: str) -> FileRecord:
    name = path.relative_to(root).as_posix()
    return FileRecord(
        path=f"{label}/{name}" if label else name,
        num_bytes=path.stat().st_size,
        sha256=_hub_sha256(path) or _sha256(path),
    )


def _hub_sha256(path: Path) -> str | None:
    """The hub's cache names its large files by their sha256."""
    blob = path.resolve()
    cached = path.is_symlink() and blob.parent.name == "blobs" and "snapshots" in path.parts
    return blob.name if cached and HUB_BLOB.fullmatch(blob.name) else None


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(HASH_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def verify(folder: Path) -> list[str]:
    """Every way in which a written folder differs from its manifest; empty when it is intact.

    Raises:
        ExportError: the folder has no manifest.
    """
    manifest = Manifest.read(folder)
    problems = (_problem(folder, record) for record in manifest.outputs)
    return [*filter(None, problems), *_unlisted(folder, manifest)]


def _unlisted(folder: Path, manifest: Manifest) -> list[str]:
    listed = {folder / record.path for record in manifest.outputs}
    return [
        f"{path}: not in the manifest, but loading the folder may read it. Take it away."
        for path in sorted(folder.rglob("*"))
        if path.name.endswith(LOADED_SUFFIXES) and path.is_file() and path not in listed
    ]


def _problem(folder: Path, record: FileRecord) -> str | None:
    path = folder / record.path
    if not path.is_file():
        return f"{path}: missing. Compose again."
    found = path.stat().st_size
    if found != record.num_bytes:
        return f"{path}: found {found} bytes, the manifest has {record.num_bytes}. Compose again."
    if _sha256(path) != record.sha256:
        return f"{path}: its sha256 is not the manifest's: its content changed. Compose again."
    return None
