"""omnibench: a question that needs a picture and a sound; ships captions of both."""

from collections.abc import Iterator
from pathlib import Path

from omnicompose.evaluation.sample import Options, Sample, Worded
from omnicompose.evaluation.task import TaskSpec
from omnicompose.evaluation.tasks.files import FileTask, shown
from omnicompose.evaluation.tasks.records import json_lines

FILES = "*.jsonl"
START = "Please answer the following question"
# The authors' sentence names what is given; without any medium they give none.
OPENING = Worded(
    texts=tuple(
        (given, f"{START} based on the given {words}:\n")
        for given, words in (
            ("image+audio", "image and audio"),
            ("image", "image"),
            ("audio", "audio"),
        )
    ),
    otherwise=f"{START}:\n",
)
MIDDLE = ".\nPlease choose only one answer from the following options:\n"


def read(folder: Path) -> Iterator[Sample]:
    """The questions of the one JSONL file; media lie in `mm_data/image` and `mm_data/audio`."""
    for record in json_lines(sorted(folder.glob(FILES))[0]):
        media, choices = folder / "mm_data", record.texts("options")
        image, audio = (media / m / record.text(f"{m}_path") for m in ("image", "audio"))
        yield Sample(
            id=record.name("index"),
            cluster=record.name("index"),
            content=(
                shown("image", image, f"Image Content: {record.text('image content')}\n"),
                shown("audio", audio, f"Audio Content: {record.text('audio content')}\n"),
                OPENING,
                record.text("question") + MIDDLE,
                Options(),
                ".",
            ),
            choices=choices,
            answer=record.one_of("answer", choices),
            category=record.text("audio type"),
        )


TASK = FileTask(
    spec=TaskSpec(
        name="omnibench",
        version=1,
        summary="Four options about a picture and a sound together; 1142 questions.",
        location="multimodal-art-projection/OmniBench: dataset/*.jsonl and mm_data",
        licence="the authors' own terms: read them at the location",
        cluster_field="index: every question has media of its own",
        # The authors' prompt, byte for byte, full stop behind the question mark included.
        prompt="PICTURE SOUND "
        + START
        + " based on the given image and audio:\nQUESTION"
        + MIDDLE
        + "A. ...\nB. ...\nC. ...\nD. ....",
        chance=0.25,
        official="last_mark",
        max_new_tokens=128,
        layout=(FILES, "mm_data/image", "mm_data/audio"),
        citation="arXiv 2409.15272",
    ),
    read=read,
)
