"""mmau: options about speech, sounds and music. Retention of an audio expert."""

from collections.abc import Iterator
from pathlib import Path

from omnicompose.evaluation.sample import Options, Sample
from omnicompose.evaluation.task import TaskSpec
from omnicompose.evaluation.tasks.files import LETTER_REQUEST, FileTask, shown, without_letter
from omnicompose.evaluation.tasks.records import json_list

FILE = "mmau-test-mini.json"


def read(folder: Path) -> Iterator[Sample]:
    """The questions of `mmau-test-mini.json`; `audio_id` is a path below the folder."""
    for record in json_list(folder / FILE):
        stated = record.texts("choices")
        yield Sample(
            id=record.name("id"),
            cluster=record.text("audio_id"),
            content=(
                shown("audio", folder / record.text("audio_id")),
                f"{record.text('question')}\n",
                Options(),
                LETTER_REQUEST,
            ),
            choices=tuple(map(without_letter, stated)),
            answer=record.one_of("answer", stated),
            category=record.text("task"),
        )


TASK = FileTask(
    spec=TaskSpec(
        name="mmau",
        version=1,
        summary="Options about speech, sounds and music. Retention of an audio expert.",
        location="the MMAU project's mmau-test-mini.json with test-mini-audios",
        licence="the authors' own terms: read them at the location",
        cluster_field="audio_id",
        # The wording of the big harness for multimodal models, byte for byte.
        prompt="SOUND QUESTION\nA. ...\nB. ...\nC. ...\nD. ..." + LETTER_REQUEST,
        chance=0.25,
        official="stripped_last_mark",
        max_new_tokens=128,
        layout=(FILE,),
        citation="arXiv 2410.19168",
    ),
    read=read,
)
