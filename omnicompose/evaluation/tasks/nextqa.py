"""nextqa: five options about what happens in a clip, and why. Retention of a video expert."""

from collections.abc import Iterator
from pathlib import Path

from omnicompose.errors import EvaluationError
from omnicompose.evaluation.sample import Options, Sample
from omnicompose.evaluation.task import TaskSpec
from omnicompose.evaluation.tasks.files import LETTER_REQUEST, FileTask, shown
from omnicompose.evaluation.tasks.records import Record, csv_rows

FILE = "test.csv"
NUM_CHOICES = 5


def read(folder: Path) -> Iterator[Sample]:
    """The rows of `test.csv`; clips lie in `videos/VIDEO.mp4`."""
    for record in csv_rows(folder / FILE):
        clip = record.text("video")
        yield Sample(
            id=f"{clip}-{record.text('qid')}",
            cluster=clip,
            content=(
                shown("video", folder / "videos" / f"{clip}.mp4"),
                f"{record.text('question').strip()}\n",
                Options(),
                LETTER_REQUEST,
            ),
            choices=tuple(record.text(f"a{i}").strip() for i in range(NUM_CHOICES)),
            answer=_answer(record),
            category=record.text("type"),
        )


def _answer(record: Record) -> int:
    answer = record.number("answer")
    if answer >= NUM_CHOICES:
        raise EvaluationError(f"{record.where}: answer: found {answer}, expected 0 to 4.")
    return answer


TASK = FileTask(
    spec=TaskSpec(
        name="nextqa",
        version=1,
        summary="Five options about what happens in a clip. Retention of a video expert.",
        location="the NExT-QA project's multiple-choice test.csv, and its clips",
        licence="the authors' own terms: read them at the location",
        cluster_field="video",
        # The options as the big harness for multimodal models writes them; the last line is ours.
        prompt="CLIP QUESTION\nA. ...\nB. ...\nC. ...\nD. ...\nE. ..." + LETTER_REQUEST,
        chance=0.2,
        official="stripped_last_mark",
        max_new_tokens=128,
        layout=(FILE, "videos"),
        citation="arXiv 2105.08276",
    ),
    read=read,
)
