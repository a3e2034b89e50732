"""From captioned media to a folder of questions in MCUB's format, with what they leak."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omnicompose.errors import EvaluationError
from omnicompose.evaluation.building.drawing import Drawn, Stock, draw_questions
from omnicompose.evaluation.building.items import Item, read_items, read_lexicon
from omnicompose.evaluation.building.leakage import Leakage, cluster_of, measure_leakage
from omnicompose.evaluation.building.zoo_items import zoo_items
from omnicompose.evaluation.journal import write_atomically
from omnicompose.evaluation.sample import LETTERS, MODALITY_ORDER, Options

QUESTIONS, ANSWERS, LEAKAGE = "MCUB-built.json", "MCUB-answer.json", "leakage.json"
ZOO = "zoo"
NAMES = {"image": "vision"}
"""What MCUB's files call a modality, where it is not our name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """What to make.

    Attributes:
        num_questions: how many.
        modalities: one input of each per question, in this order.
        seed: another one makes other questions.
        question: the words above the options.
        style: of an option, with `{letter}` and `{choice}`.
        lexicon: a JSON file of attributes and their words; None: the captions' own words.
    """

    num_questions: int = 600
    modalities: tuple[str, ...] = ("image", "audio", "video")
    seed: int = 0
    question: str = "What do these have in common?"
    style: str = "{letter}. {choice}"
    lexicon: Path | None = None

    def __post_init__(self) -> None:
        """Check the modalities.

        Raises:
            EvaluationError: an unknown one, one twice, or fewer than two.
        """
        known = [m for m in self.modalities if m in MODALITY_ORDER]
        if len(set(known)) < len(self.modalities) or len(known) < 2:
            raise EvaluationError(
                f"mcub build: found the modalities {'+'.join(self.modalities)!r}, expected two or "
                f"more of {', '.join(MODALITY_ORDER)}, each once, joined by +."
            )


def build_mcub(captions: Path, out: Path, options: BuildOptions) -> Leakage:
    """Make questions about what inputs of several modalities have in common.

    Args:
        captions: CSV or JSONL (`items.read_items`); the word `zoo`: the media that ship.
        out: folder to write: questions, answers and leakage; name it `.../mcub-built` to ask them
            with `evaluate --tasks mcub-built --data ...`.
        options: what to make.

    Returns:
        How far readers get who see too little.

    Raises:
        EvaluationError: the captions cannot be read, or hold too little for so many questions.
    """
    items = _items(captions, out, options)
    by_modality = {m: [i for i in items if i.modality == m] for m in options.modalities}
    if lacking := [m for m, found in by_modality.items() if not found]:
        raise EvaluationError(
            f"{captions}: found no {lacking[0]}, expected media of {', '.join(options.modalities)}."
        )
    drawn = draw_questions(Stock(by_modality), options.num_questions, options.seed)
    leakage = measure_leakage(drawn)
    _write(out / QUESTIONS, [_record(i, q, out, options, None) for i, q in enumerate(drawn)])
    answers = [_record(i, q, out, options, LETTERS[q.answer]) for i, q in enumerate(drawn)]
    _write(out / ANSWERS, answers)
    _write(out / LEAKAGE, leakage.to_dict())
    return leakage


def _items(captions: Path, out: Path, options: BuildOptions) -> Sequence[Item]:
    if str(captions) == ZOO:
        return zoo_items(out / "media", options.modalities)
    lexicon = None
    if options.lexicon is not None:
        try:
            values = json.loads(options.lexicon.read_text(encoding="utf-8"))
        except (OSError, ValueError) as err:
            raise EvaluationError(
                f"{options.lexicon}: {err}; expected a JSON object of attributes and their words."
            ) from err
        lexicon = read_lexicon(values, options.lexicon)
    return read_items(captions, lexicon)


def _record(
    number: int, drawn: Drawn, out: Path, options: BuildOptions, letter: str | None
) -> dict[str, object]:
    """One entry in MCUB's shape; captions and cluster beside it, which MCUB does not have."""
    tags = "".join(f"<{item.modality}>\n" for item in drawn.inputs)
    lines = Options(style=options.style).text(drawn.options)
    inputs = {NAMES.get(i.modality, i.modality): [_relative(i.path, out)] for i in drawn.inputs}
    return {
        "id": f"{'-'.join(options.modalities)}-{options.seed}-{number:05d}",
        "conversations": [
            {"from": "human", "value": f"{tags}{options.question}\n{lines}"},
            {"from": "gpt", "value": letter},
        ],
        "modal_inputs": inputs,
        "captions": {
            NAMES.get(item.modality, item.modality): [item.caption] for item in drawn.inputs
        },
        "cluster": cluster_of(drawn),
    }


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()


def _write(path: Path, value: object) -> None:
    write_atomically(path, (json.dumps(value, ensure_ascii=False, indent=1) + "\n").encode())
