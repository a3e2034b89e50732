"""objaverse: describe a point cloud, or choose its description among four; no judge model.

The authors let GPT-4 grade captions at temperature 1, which nobody can repeat. Here a caption is
graded by ROUGE-L against the reference, and classifying is choosing the object's own description
among those of three others, drawn by a fixed seed.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from omnicompose.errors import EvaluationError
from omnicompose.evaluation.sample import Options, Part, Sample
from omnicompose.evaluation.task import TaskSpec
from omnicompose.evaluation.tasks.files import LETTER_REQUEST, FileTask, shown
from omnicompose.evaluation.tasks.records import Record, json_list

FILE = "PointLLM_brief_description_val_200_GT.json"
CAPTION = "Caption this 3D model in detail."
CHOOSE = "Which of these describes this 3D model?\n"
NUM_CHOICES = 4
SEED = 0


def read_captions(folder: Path) -> Iterator[Sample]:
    """One request for a description per object."""
    for record in json_list(folder / FILE):
        yield Sample(
            id=record.text("object_id"),
            cluster=record.text("object_id"),
            content=(_cloud(record, folder), CAPTION),
            choices=(_reference(record),),
            answer=0,
            reading="caption",
        )


def read_choices(folder: Path) -> Iterator[Sample]:
    """One choice among four descriptions per object."""
    records = json_list(folder / FILE)
    references = [_reference(record) for record in records]
    if len(set(references)) < NUM_CHOICES:
        raise EvaluationError(
            f"{folder / FILE}: found {len(set(references))} different descriptions, expected "
            f"{NUM_CHOICES} or more to choose among."
        )
    for i, record in enumerate(records):
        rng = np.random.default_rng((SEED, i))
        others = sorted(set(references) - {references[i]})
        drawn = [others[j] for j in rng.permutation(len(others))[: NUM_CHOICES - 1]]
        answer = int(rng.integers(NUM_CHOICES))
        yield Sample(
            id=record.text("object_id"),
            cluster=record.text("object_id"),
            content=(_cloud(record, folder), CHOOSE, Options(), LETTER_REQUEST),
            choices=(*drawn[:answer], references[i], *drawn[answer:]),
            answer=answer,
        )


def _cloud(record: Record, folder: Path) -> Part:
    return shown("point", folder / "points" / f"{record.text('object_id')}_8192.npy")


def _reference(record: Record) -> str:
    return record.records("conversations")[-1].text("value").strip()


def _spec(name: str, summary: str, prompt: str, chance: float) -> TaskSpec:
    return TaskSpec(
        name=name,
        version=1,
        summary=summary,
        location="RunsenXu/PointLLM on the hub: the reference file, and the 200 clouds in points/",
        licence="the authors' own terms: read them at the location",
        cluster_field="object_id: every question has a cloud of its own",
        prompt=prompt,
        chance=chance,
        max_new_tokens=128,
        layout=(FILE, "points"),
        citation="arXiv 2308.16911",
    )


TASKS = (
    FileTask(
        # The third of PointLLM's prompts, byte for byte.
        spec=_spec(
            "objaverse/caption",
            "Describe this point cloud: ROUGE-L against the reference.",
            "CLOUD " + CAPTION,
            0.0,
        ),
        read=read_captions,
    ),
    FileTask(
        spec=_spec(
            "objaverse/choose",
            "Which of four descriptions is this point cloud's?",
            "CLOUD " + CHOOSE + "A. ...\nB. ...\nC. ...\nD. ..." + LETTER_REQUEST,
            1 / NUM_CHOICES,
        ),
        read=read_choices,
    ),
)
