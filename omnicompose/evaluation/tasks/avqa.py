"""avqa: four options about a ten-second clip with its sound."""

from collections.abc import Iterator
from pathlib import Path

from omnicompose.evaluation.sample import Options, Sample
from omnicompose.evaluation.task import TaskSpec
from omnicompose.evaluation.tasks.files import LETTER_REQUEST, FileTask, clip_with_sound
from omnicompose.evaluation.tasks.records import json_list

FILE = "val_qa.json"


def read(folder: Path) -> Iterator[Sample]:
    """The questions of `val_qa.json`; clips lie in `videos/VIDEO_NAME.mp4`."""
    for record in json_list(folder / FILE):
        name = record.text("video_name")
        choices = record.texts("multi_choice")
        record.one_of("question_relation", ("View", "Sound", "Both"))
        yield Sample(
            id=record.name("id"),
            cluster=name,
            content=(
                *clip_with_sound(folder / "videos" / f"{name}.mp4"),
                f"{record.text('question_text')}\n",
                Options(),
                LETTER_REQUEST,
            ),
            choices=choices,
            answer=record.number("answer"),
            category=record.text("question_type"),
        )


TASK = FileTask(
    spec=TaskSpec(
        name="avqa",
        version=1,
        summary="Four options about a ten-second clip with its sound (VGG-Sound).",
        location="the AVQA project (AlyssaYoung/AVQA); clips from VGG-Sound",
        licence="the authors' own terms: read them at the location",
        cluster_field="video_name",
        # The authors classify and give no prompt; the last line is what the field appends.
        prompt="CLIP SOUND QUESTION\nA. ...\nB. ...\nC. ...\nD. ..." + LETTER_REQUEST,
        chance=0.25,
        official="first_character",
        max_new_tokens=128,
        layout=(FILE, "videos"),
        citation="Yang et al., AVQA, ACM Multimedia 2022",
    ),
    read=read,
)
