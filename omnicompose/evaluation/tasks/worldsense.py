"""worldsense: three or four options about a minute or more of clip and sound."""

from collections.abc import Iterator
from pathlib import Path

from omnicompose.evaluation.sample import LETTERS, Options, Sample, Worded
from omnicompose.evaluation.task import TaskSpec
from omnicompose.evaluation.tasks.files import FileTask, clip_with_sound, without_letter
from omnicompose.evaluation.tasks.records import json_table

FILE = "worldsense_qa.json"
OPENING = (
    "Carefully watch this video and pay attention to every detail. "
    "Based on your observations, select the best option that accurately addresses the question."
)
CHOOSE = (
    "Select the best answer to the following multiple-choice question based on the video. "
    "Respond with only the letter (A, B, C, or D) of the correct option.\n"
)
# The authors' sentence names what is given; they never ask without the clip, so then none is said.
GIVEN = Worded(
    texts=(
        ("audio+video", f"\nThese are the frames of a video and the corresponding audio. {CHOOSE}"),
        ("video", f"\nThese are the frames of a video. {CHOOSE}"),
    ),
    otherwise=f"\n{CHOOSE}",
)


def read(folder: Path) -> Iterator[Sample]:
    """The questions of `worldsense_qa.json`: one entry per clip, `task0`, `task1` ... in it."""
    for name, clip in json_table(folder / FILE):
        for key in sorted(k for k in clip.values if k.startswith("task")):
            record = clip.record(key)
            choices = tuple(map(without_letter, record.texts("candidates")))
            yield Sample(
                id=f"{name}-{key}",
                cluster=name,
                content=(
                    OPENING,
                    *clip_with_sound(folder / "videos" / f"{name}.mp4"),
                    GIVEN,
                    f"Question: {record.text('question')}\n",
                    Options(),
                    "\nAnswer: ",
                ),
                choices=choices,
                answer=record.one_of("answer", tuple(LETTERS[: len(choices)])),
                category=record.text("task_type"),
            )


TASK = FileTask(
    spec=TaskSpec(
        name="worldsense",
        version=2,
        summary="Three or four options about a longer clip with sound; 3172 questions, 26 tasks.",
        location="honglyhly/WorldSense on the hub: worldsense_qa.json and videos",
        licence="CC BY-NC 4.0, as others report: read the terms at the location",
        cluster_field="clip",
        # The authors' prompt with sound, byte for byte: their first sentence stands before the
        # clip, and the turn ends in a space.
        prompt=OPENING
        + "CLIP SOUND"
        + GIVEN.text("audio+video")
        + "Question: QUESTION\nA. ...\nB. ...\nC. ...\nD. ...\nAnswer: ",
        chance=0.25,
        official="first_capital",
        max_new_tokens=128,
        layout=(FILE, "videos"),
        citation="arXiv 2502.04326",
    ),
    read=read,
)
