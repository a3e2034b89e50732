"""daily-omni: what happens at the same time in a clip and its sound?"""

from collections.abc import Iterator
from pathlib import Path

from omnicompose.evaluation.sample import Options, Sample
from omnicompose.evaluation.task import TaskSpec
from omnicompose.evaluation.tasks.files import FileTask, clip_with_sound, without_letter
from omnicompose.evaluation.tasks.records import json_list

FILE = "qa.json"
OPENING = (
    "\nYour task is to accurately answer multiple-choice questions based on the given video.\n"
    "Select the single most accurate answer from the given choices.\nQuestion: "
)
CLOSING = (
    "\nYour answer should be a capital letter representing your choice: A, B, C, or D. "
    "Don't generate any other text.\n"
)


def read(folder: Path) -> Iterator[Sample]:
    """The questions of `qa.json`; media lie in `Videos/ID/ID_video.mp4` and `ID_audio.wav`."""
    for i, record in enumerate(json_list(folder / FILE)):
        name = record.text("video_id")
        media = folder / "Videos" / name
        yield Sample(
            id=f"{i:04d}",
            cluster=name,
            content=(
                *clip_with_sound(media / f"{name}_video.mp4", media / f"{name}_audio.wav"),
                f"{OPENING}{record.text('Question')}\nChoices: ",
                Options(separator=None),
                CLOSING,
            ),
            choices=tuple(map(without_letter, record.texts("Choice"))),
            answer=record.one_of("Answer", ("A", "B", "C", "D")),
            category=record.text("Type"),
        )


TASK = FileTask(
    spec=TaskSpec(
        name="daily-omni",
        version=1,
        summary="Four options about what a clip and its sound show together; 1197 questions.",
        location="liarliar/Daily-Omni on the hub (project Lliar-liar/Daily-Omni): qa.json, Videos",
        licence="the authors' own terms: read them at the location",
        cluster_field="video_id",
        # The authors' prompt, byte for byte: it begins and ends with a line break, and the options
        # stand as Python prints a list.
        prompt="CLIP SOUND " + OPENING + "QUESTION\nChoices: ['A. ...', 'B. ...', ...]" + CLOSING,
        chance=0.25,
        official="leading_letter",
        max_new_tokens=10,
        layout=(FILE, "Videos"),
        citation="arXiv 2505.17862",
    ),
    read=read,
)
