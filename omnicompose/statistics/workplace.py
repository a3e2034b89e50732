"""Where a collection keeps what it has: sums of finished blocks, and hidden states of examples.

Everything lies in `.<name>.collecting` beside the file that is made. A block's sums are written in
one step when its states are complete, so that a killed run is taken up at the first missing block.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file

from omnicompose.errors import CalibrationError, SourceError
from omnicompose.merging.statistics_file import open_statistics
from omnicompose.statistics.joining import PLACEHOLDER
from omnicompose.tensors.saving import save_tensors

ASKED = "asked.json"


class Workplace:
    """A folder of work; also the `States` of a run.

    Attributes:
        folder: where it lies.
        asked: hash of what is collected, of what and on what.
    """

    def __init__(self, out: Path, asked: Mapping[str, object]) -> None:
        """Open the folder beside `out`, or what an earlier run of the same kind left there.

        Raises:
            CalibrationError: another run left it.
        """
        self.folder = out.with_name(f".{out.name}.collecting")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.asked = _hash(asked)
        note = self.folder / ASKED
        text = json.dumps(dict(asked), sort_keys=True, indent=2)
        if note.is_file() and note.read_text(encoding="utf-8") != text:
            raise CalibrationError(
                f"{self.folder}: found the work of another collection (other model, data or "
                "settings). Remove the folder, or write to another --out."
            )
        note.write_text(text, encoding="utf-8")

    def remove(self) -> None:
        """All is done."""
        shutil.rmtree(self.folder)

    def part(self, name: str) -> Path:
        """Where the sums of one part of the model lie."""
        return self.folder / f"{name}.safetensors"

    def has(self, name: str) -> bool:
        """Whether a part is finished."""
        return self.part(name).is_file()

    def keep(
        self, name: str, tensors: Mapping[str, torch.Tensor], notes: Mapping[str, str]
    ) -> None:
        """Write a part's sums: whole, or not at all."""
        save_tensors(tensors or {PLACEHOLDER: torch.zeros(1)}, self.part(name), notes)

    def write(self, block: int, example: int, state: torch.Tensor) -> None:
        """Keep the hidden states of an example before a block."""
        self._write(f"states-{block}", example, state)

    def read(self, block: int, example: int) -> torch.Tensor:
        """The hidden states of an example before a block."""
        return self._read(f"states-{block}", example)

    def forget(self, block: int) -> None:
        """Remove the hidden states before a block."""
        shutil.rmtree(self.folder / f"states-{block}", ignore_errors=True)

    def write_slope(self, block: int, example: int, slope: torch.Tensor) -> None:
        """Keep the gradient with regard to an example's hidden states before a block."""
        self._write(f"slopes-{block}", example, slope)

    def read_slope(self, block: int, example: int) -> torch.Tensor:
        """That gradient."""
        return self._read(f"slopes-{block}", example)

    def forget_slopes(self, block: int) -> None:
        """Remove the gradients before a block."""
        shutil.rmtree(self.folder / f"slopes-{block}", ignore_errors=True)

    def _write(self, kind: str, example: int, tensor: torch.Tensor) -> None:
        save_tensors({"state": tensor}, self.folder / kind / f"{example}.safetensors")

    def _read(self, kind: str, example: int) -> torch.Tensor:
        return load_file(self.folder / kind / f"{example}.safetensors")["state"]


def is_collected(out: Path, asked: Mapping[str, object], *, overwrite: bool) -> bool:
    """Whether a file holds the very statistics that are asked for.

    Raises:
        CalibrationError: it holds something else, and is not to be overwritten.
    """
    if not out.exists():
        return False
    if _held(out) == _hash(asked):
        return True
    if overwrite and out.is_file():
        return False
    raise CalibrationError(
        f"{out}: exists already, and holds something else than is asked for (other model, weights, "
        "data or settings). Name another file, or replace it with --overwrite."
    )


def _held(out: Path) -> str:
    try:
        return open_statistics(out).facts.asked
    except SourceError:
        return ""  # Not a file of ours: it is in the way like any other.


def _hash(asked: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(dict(asked), sort_keys=True).encode()).hexdigest()
