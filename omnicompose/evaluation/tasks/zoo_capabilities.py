"""capability/...: what fine-tunes of the capability zoo can do, on pictures that nobody trained on.

One task per capability and one for the base's own skill; the same again as `capability-validation`,
on other pictures, for whoever has to choose a coefficient.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from omnicompose.evaluation.sample import Medium, Sample, Shown
from omnicompose.evaluation.task import TaskSpec
from omnicompose.zoo.capabilities.media import Asked, read_library
from omnicompose.zoo.capabilities.questions import CAPABILITIES, SKILL
from omnicompose.zoo.capabilities.world import Split

FAMILIES: dict[str, Split] = {"capability": "test", "capability-validation": "validation"}
SUMMARIES = {
    "vqa": "How many, which colour, which shape: questions about a drawn scene.",
    "geometry": "How many sides or degrees has a figure, how do its lines lie?",
    "chart": "What has the most, what the least, how much exactly: questions about a chart.",
    "ocr": "Which letters are printed?",
    "grounding": "Where is a thing, and what stands in the box?",
    SKILL: "What is shown, in which colour, and is there any? What the base can do.",
}
CHANCE = {"vqa": 0.19, "geometry": 0.25, "chart": 0.17, "ocr": 0.1, "grounding": 0.24, SKILL: 0.3}
"""Of guessing among the choices of a question, averaged over the questions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CapabilityTask:
    """The questions of one capability on the pictures of one split.

    Attributes:
        spec: what it is.
        capability: one of `CAPABILITIES`, or the base's skill.
        split: whose pictures.
    """

    spec: TaskSpec
    capability: str
    split: Split

    def samples(self, media_dir: Path, limit: int | None) -> list[Sample]:
        """All questions, picture by picture."""
        own = [
            asked
            for asked in read_library()
            if (asked.task, asked.split) == (self.capability, self.split)
        ]
        samples = [sample for asked in own for sample in _samples(asked, media_dir)]
        return samples[:limit]


def _samples(asked: Asked, media_dir: Path) -> list[Sample]:
    medium = _written(asked, media_dir)
    return [
        Sample(
            id=f"{Path(asked.name).stem}-{number}",
            cluster=asked.name,
            content=(Shown(medium=medium), question.text),
            choices=question.choices,
            answer=question.choices.index(question.answer),
            openings=question.choices,
            category=" ".join(question.text.split()[:2]),
        )
        for number, question in enumerate(asked.questions)
    ]


def _written(asked: Asked, folder: Path) -> Medium:
    """The picture as a file named by its digest, so that a stale one is never taken for it."""
    digest = hashlib.sha256(asked.data).hexdigest()
    path = folder / f"image-{digest[:16]}.png"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        partial.write_bytes(asked.data)
        partial.replace(path)
    return Medium(modality="image", path=path, sha256=digest)


def _task(family: str, split: Split, capability: str) -> CapabilityTask:
    return CapabilityTask(
        spec=TaskSpec(
            name=f"{family}/{capability}",
            version=1,
            summary=SUMMARIES[capability],
            location="drawn by omnicompose.zoo.capabilities; zoo/assets/capability-media, "
            "pictures that its training never drew",
            licence="Apache-2.0 (fonts: DejaVu and STIX, as matplotlib ships them)",
            cluster_field="picture",
            # The picture stands first; the reply is one word of a closed set that is not shown.
            prompt="PICTURE QUESTION",
            chance=CHANCE[capability],
        ),
        capability=capability,
        split=split,
    )


TASKS = tuple(
    _task(family, split, capability)
    for family, split in FAMILIES.items()
    for capability in (*CAPABILITIES, SKILL)
)
