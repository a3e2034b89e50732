"""Data to collect on: JSON lines of raw text, or of user turns with media and perhaps a reply.

    {"text": "any text, as it is"}
    {"content": ["what is this?", {"type": "image", "path": "a.png"}], "reply": "a three"}

`content` may be plain text. Relative paths start from the file's folder. `reply` is only looked at
where labels are asked for.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from omnicompose.errors import CalibrationError
from omnicompose.modalities import MODALITIES

EXPECTED = (
    'expected {"text": "..."}, or {"content": [...]} with texts and {"type": modality, "path": '
    'file}, and perhaps "reply"'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A medium of a prompt."""

    modality: str
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One example.

    Attributes:
        content: texts and media of the user turn, or the raw text alone.
        raw: no chat template is laid around it.
        reply: what the model should say; None where it is not known.
        line: of its file, counted from 1.
    """

    content: tuple[str | Shown, ...]
    raw: bool
    reply: str | None = None
    line: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptFile:
    """A file of examples.

    Attributes:
        path: where it lies.
        sha256: of its bytes.
        prompts: its examples, in order.
    """

    path: Path
    sha256: str
    prompts: tuple[Prompt, ...]

    def need_replies(self, instead: str) -> None:
        """Refuse examples without a reply; raw text says what follows itself.

        Args:
            instead: what can be done without labels.

        Raises:
            CalibrationError: an example has none.
        """
        lacking = [p.line for p in self.prompts if p.reply is None and not p.raw]
        if lacking:
            raise CalibrationError(
                f"{self.path}: labels are asked for, and line {lacking[0]} has no `reply` "
                f"({len(lacking)} of {len(self.prompts)} lines). Add them, or {instead}."
            )


def read_prompts(path: Path, limit: int | None = None) -> PromptFile:
    """Read examples.

    Args:
        path: JSON lines.
        limit: so many at most, the first ones.

    Raises:
        CalibrationError: the file is not there or holds none, or a line is no example.
    """
    if not path.is_file():
        raise CalibrationError(
            f"{path}: no such file of calibration data. Correct the path; {EXPECTED} in every line."
        )
    content = path.read_bytes()
    # Only line feeds end a line: other separators may stand inside a JSON text.
    lines = enumerate(_decoded(path, content).split("\n"), start=1)
    told = [(number, line) for number, line in lines if line.strip()][:limit]
    prompts = tuple(_read_line(line, number, path) for number, line in told)
    if not prompts:
        raise CalibrationError(f"{path}: found no examples; {EXPECTED} in every line.")
    digest = hashlib.sha256(content + f"\n{limit}".encode()).hexdigest()
    return PromptFile(path=path, sha256=digest, prompts=prompts)


def _decoded(path: Path, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CalibrationError(
            f"{path}: found bytes that are no UTF-8 ({error}). Save the file as UTF-8."
        ) from error


def _read_line(line: str, number: int, path: Path) -> Prompt:
    try:
        fields = json.loads(line)
        reply = fields.get("reply")
        if reply is not None and not isinstance(reply, str):
            raise TypeError("`reply` is no text")
        raw = "text" in fields
        parts = [str(fields["text"])] if raw else fields["content"]
        parts = [parts] if isinstance(parts, str) else parts
        found = tuple(_part(part, path.parent) for part in parts)
        if not any(found):
            raise ValueError("it says and shows nothing")
        return Prompt(content=found, raw=raw, reply=reply, line=number)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CalibrationError(
            f"{path}:{number}: found {line[:60]!r} ({error}); {EXPECTED}."
        ) from error


def _part(part: object, folder: Path) -> str | Shown:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict) or part.get("type") not in MODALITIES:
        raise ValueError(f"type is none of {', '.join(MODALITIES)}")
    file = folder / str(part["path"])
    if not file.is_file():
        raise ValueError(f"{file} does not exist")
    return Shown(modality=part["type"], path=file)
