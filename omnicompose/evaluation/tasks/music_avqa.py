"""music-avqa: short answers about a clip of people making music; a closed set of answers."""

import re
from collections.abc import Iterator
from pathlib import Path

from omnicompose.errors import EvaluationError
from omnicompose.evaluation.sample import Sample
from omnicompose.evaluation.task import TaskSpec
from omnicompose.evaluation.tasks.files import WORD_REQUEST, FileTask, clip_with_sound
from omnicompose.evaluation.tasks.records import Record, json_list

FILE = "avqa-test.json"
PLACE = re.compile(r"<[A-Za-z ]+>")


def read(folder: Path) -> Iterator[Sample]:
    """The questions of `avqa-test.json`; the answers that occur in it are the closed set."""
    records = json_list(folder / FILE)
    answers = tuple(sorted({_answer(record) for record in records}))
    for record in records:
        clip = record.text("video_id")
        yield Sample(
            id=record.name("question_id"),
            cluster=clip,
            content=(
                *clip_with_sound(folder / "videos" / f"{clip}.mp4"),
                filled(record) + WORD_REQUEST,
            ),
            choices=answers,
            answer=answers.index(_answer(record)),
            reading="words",
            category=" ".join(record.texts("type")),
        )


def filled(record: Record) -> str:
    """The question with its `<Object>` places filled from `templ_values`, in order."""
    question, values = record.text("question_content"), list(record.texts("templ_values"))
    if len(PLACE.findall(question)) != len(values):
        raise EvaluationError(
            f"{record.where}: templ_values: found {len(values)}, expected one for each place of "
            f"{question!r}."
        )
    return PLACE.sub(lambda _: values.pop(0), question)


def _answer(record: Record) -> str:
    return record.text("anser").strip()  # the data set's own spelling


TASK = FileTask(
    spec=TaskSpec(
        name="music-avqa",
        version=1,
        summary="Short answers about a clip of people making music; 41 answers.",
        location="the MUSIC-AVQA project (GeWu-Lab/MUSIC-AVQA), data/json and the clips",
        licence="the authors' own terms: read them at the location",
        cluster_field="video_id",
        # The authors classify and give no prompt; the last line is what the field appends.
        prompt="CLIP SOUND QUESTION" + WORD_REQUEST,
        chance=1 / 41,
        layout=(FILE, "videos"),
        citation="Li et al., MUSIC-AVQA, CVPR 2022",
    ),
    read=read,
)
