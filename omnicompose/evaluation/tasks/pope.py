"""pope: is this object in the picture? Retention of an image expert."""

from collections.abc import Iterator
from pathlib import Path

from omnicompose.evaluation.sample import Sample
from omnicompose.evaluation.task import TaskSpec
from omnicompose.evaluation.tasks.files import WORD_REQUEST, FileTask, shown
from omnicompose.evaluation.tasks.records import json_lines

FILES = "coco_pope_*.json"
ANSWERS = ("Yes", "No")


def read(folder: Path) -> Iterator[Sample]:
    """The questions of `coco_pope_{random,popular,adversarial}.json`, one JSON object a line."""
    for path in sorted(folder.glob(FILES)):
        kind = path.stem.removeprefix("coco_pope_")
        for record in json_lines(path):
            image = record.text("image")
            yield Sample(
                id=f"{kind}-{record.name('question_id')}",
                cluster=image,
                content=(
                    shown("image", folder / "val2014" / image),
                    record.text("text") + WORD_REQUEST,
                ),
                choices=ANSWERS,
                answer=record.one_of("label", ("yes", "no")),
                openings=ANSWERS,
                reading="yesno",
                category=kind,
            )


TASK = FileTask(
    spec=TaskSpec(
        name="pope",
        version=1,
        summary="Is this object in the picture? Yes or no. Retention of an image expert.",
        location="the POPE project's output/coco files, and COCO's val2014 pictures",
        licence="the authors' own terms: read them at the location",
        cluster_field="image",
        # The question and what the field appends to it.
        prompt="PICTURE QUESTION" + WORD_REQUEST,
        chance=0.5,
        official="whole_word",
        layout=(FILES, "val2014"),
        citation="arXiv 2305.10355",
    ),
    read=read,
)
