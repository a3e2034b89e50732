"""From another harness's messages to a user turn of ours, media written to files without loss."""

import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import soundfile
from PIL import Image

from omnicompose.errors import EvaluationError
from omnicompose.evaluation.sample import Medium, open_medium
from omnicompose.evaluation.subsets import Content

Message = Mapping[str, object]
GREEDY = ("temperature", "do_sample", "num_beams", "top_p", "top_k")
MOST_NEW_TOKENS = 1024
"""Where a task sets no limit."""


class Samples(Protocol):
    """A sound as `datasets` decodes it lazily."""

    def get_all_samples(self) -> object:
        """Everything decoded, with `data` `[channels, n]` and `sample_rate`."""
        ...


def user_turn(messages: Sequence[Message], media_dir: Path) -> Content:
    """The one user turn of a conversation.

    Args:
        messages: `{"role", "content": [{"type", "text" | "url"}]}`; media are PIL images, sounds as
            `{"array", "sampling_rate"}`, or paths.
        media_dir: a folder for media that are no files.

    Raises:
        EvaluationError: another turn than the user's, or a medium of an unknown form.
    """
    roles = [message["role"] for message in messages]
    if roles != ["user"]:
        raise EvaluationError(
            f"a conversation of {', '.join(map(str, roles))}: expected one user turn. Composites "
            "are asked without system prompts and earlier turns; choose a zero-shot task."
        )
    content: list[Medium | str] = []
    for entry in cast(Sequence[Message], messages[0]["content"]):
        kind = str(entry["type"])
        if kind == "text":
            content.append(str(entry["text"]))
        else:
            content.append(_medium(kind, entry["url"], media_dir))
    return tuple(content)


def token_limit(settings: Mapping[str, object]) -> int:
    """The greatest number of new tokens that a task asks for.

    Raises:
        EvaluationError: it asks for sampling or beams.
    """
    sampled = settings.get("do_sample") or float(str(settings.get("temperature") or 0)) > 0
    if sampled or int(str(settings.get("num_beams") or 1)) > 1:
        found = ", ".join(f"{name}={settings[name]}" for name in GREEDY if name in settings)
        raise EvaluationError(
            f"the task asks for {found}; expected greedy replies. "
            "Pass --gen_kwargs temperature=0,do_sample=False,num_beams=1."
        )
    return int(
        str(settings.get("max_new_tokens") or settings.get("max_gen_toks") or MOST_NEW_TOKENS)
    )


def cut(reply: str, until: object) -> str:
    """The reply up to the first of the strings that end it."""
    stops = [until] if isinstance(until, str) else until if isinstance(until, list) else []
    places = [reply.find(stop) for stop in stops if isinstance(stop, str) and stop]
    found = [place for place in places if place >= 0]
    return reply[: min(found)] if found else reply


def _medium(kind: str, value: object, folder: Path) -> Medium:
    if isinstance(value, (str, Path)):
        return open_medium(kind, Path(value))
    if isinstance(value, Image.Image):
        stream = io.BytesIO()
        value.convert("RGB").save(stream, "PNG")
        return _written("image", ".png", stream.getvalue(), folder)
    sound = _sound(value)
    if sound is not None:
        samples, rate = sound
        stream = io.BytesIO()
        soundfile.write(stream, samples, rate, format="WAV", subtype="FLOAT")
        return _written("audio", ".wav", stream.getvalue(), folder)
    raise EvaluationError(
        f"a medium of type {kind}: found a {type(value).__name__}, expected a picture, a sound "
        "with array and sampling_rate, or a path."
    )


def _sound(value: object) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.float32]], int] | None:
    """Mono samples and their rate."""
    if isinstance(value, Mapping) and {"array", "sampling_rate"} <= value.keys():
        samples, rate = np.asarray(value["array"], dtype=np.float32), value["sampling_rate"]
    elif hasattr(value, "get_all_samples"):
        decoded = cast(Samples, value).get_all_samples()
        samples = np.asarray(decoded.data, dtype=np.float32).mean(axis=0)  # type: ignore[attr-defined]
        rate = decoded.sample_rate  # type: ignore[attr-defined]
    else:
        return None
    return samples, int(rate)


def _written(modality: str, suffix: str, data: bytes, folder: Path) -> Medium:
    digest = hashlib.sha256(data).hexdigest()
    path = folder / f"{modality}-{digest[:16]}{suffix}"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return Medium(modality=modality, path=path, sha256=digest)
