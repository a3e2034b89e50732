"""Ask a composite one question about pictures, sounds and clips."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from omnicompose.errors import ModelInputError, SourceError
from omnicompose.media import check_media


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """One thing that was shown.

    Attributes:
        modality: what it was given as.
        path: the file.
        num_tokens: positions that it takes in the prompt.
        stream: whose weights those positions use: the modality's own or `text`.
    """

    modality: str
    path: str
    num_tokens: int
    stream: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the composite said, and what it was shown.

    Attributes:
        question: as asked.
        answer: the generated text.
        inputs: the media in the order of the prompt.
    """

    question: str
    answer: str
    inputs: tuple[Input, ...]

    def to_json(self) -> dict[str, object]:
        """The fields as plain data."""
        return asdict(self)


def ask(
    model_dir: Path,
    question: str,
    media: Sequence[tuple[str, Path]],
    *,
    device: str = "cpu",
    max_new_tokens: int = 64,
) -> Answer:
    """Ask one question; the answer is greedy, so the same every time.

    Args:
        model_dir: a folder that `omnicompose compose` wrote.
        question: the text, put after the media.
        media: modality and file of everything shown, in order.
        device: where to compute.
        max_new_tokens: longest answer.

    Raises:
        SourceError: the folder holds no composite.
        ModelInputError: no text in the question, or a modality that the composite lacks.
        MediaError: a file is not what its modality says.
    """
    modalities = _modalities(model_dir)
    _check(question, media, modalities, model_dir)
    from omnicompose.replier import load_replier

    replier = load_replier(model_dir, device=device)
    content = [{"type": modality, "path": str(path)} for modality, path in media]
    answer = replier.reply([*content, {"type": "text", "text": question}], max_new_tokens)
    inputs = tuple(
        Input(
            modality=item["type"],
            path=item["path"],
            num_tokens=replier.count_tokens(item),
            stream=item["type"] if modalities[item["type"]].get("stream") else "text",
        )
        for item in content
    )
    return Answer(question=question, answer=answer, inputs=inputs)


def _modalities(model_dir: Path) -> Mapping[str, Mapping[str, object]]:
    """The composite's modalities, from its configuration alone."""
    path = model_dir / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise SourceError(
            f"{model_dir}: found no readable config.json, expected a composite. "
            f"Write one with `omnicompose compose RECIPE --out {model_dir}`."
        ) from err
    fields = config if isinstance(config, dict) else {}
    modalities: Mapping[str, Mapping[str, object]] = fields.get("modalities", {})
    if fields.get("model_type") != "omnicompose" or not isinstance(modalities, dict):
        raise SourceError(
            f"{path}: found model_type {fields.get('model_type')!r}, expected 'omnicompose' with "
            "its modalities. Name a folder that `omnicompose compose` wrote."
        )
    return modalities


def _check(
    question: str,
    media: Sequence[tuple[str, Path]],
    modalities: Mapping[str, Mapping[str, object]],
    model_dir: Path,
) -> None:
    if not question.strip():
        raise ModelInputError("the question holds no text. Ask something about the media.")
    for modality, path in media:
        if modality not in modalities:
            raise ModelInputError(
                f"{path} is given as {modality}, but {model_dir} was composed without {modality}; "
                f"it has {', '.join(modalities) or 'text only'}. Compose it with an expert for it."
            )
        check_media(path, modality)
