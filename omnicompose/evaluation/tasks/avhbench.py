"""avhbench: is what is heard seen, and what is seen heard? Yes or no, as often one as the other."""

from collections.abc import Iterator
from pathlib import Path

from omnicompose.evaluation.sample import Sample
from omnicompose.evaluation.task import TaskSpec
from omnicompose.evaluation.tasks.files import FileTask, clip_with_sound
from omnicompose.evaluation.tasks.records import json_list

ANSWERS = ("Yes", "No")
JUDGED = ("Audio-driven Video Hallucination", "Video-driven Audio Hallucination", "AV Matching")
CAPTIONS = "AV Captioning"


def read(folder: Path) -> Iterator[Sample]:
    """The judgements of `json/ID.json`, one file per clip; requests for captions are left out."""
    for path in sorted((folder / "json").glob("*.json")):
        for i, record in enumerate(json_list(path)):
            kinds = (*JUDGED, CAPTIONS)
            kind = kinds[record.one_of("task", kinds)]
            if kind == CAPTIONS:
                continue
            name = record.text("video_id")
            yield Sample(
                id=f"{path.stem}-{i:02d}",
                cluster=name,
                content=(
                    *clip_with_sound(folder / "video" / f"{name}.mp4"),
                    record.text("text"),
                ),
                choices=ANSWERS,
                answer=record.one_of("label", ANSWERS),
                openings=ANSWERS,
                reading="yesno",
                category=kind,
            )


TASK = FileTask(
    spec=TaskSpec(
        name="avhbench",
        version=1,
        summary="Is what is heard also seen, and the other way round? Yes or no.",
        location="the AVHBench project (kaist-ami/AVHBench), AVHBench_v0: json and video",
        licence="the authors' own terms: read them at the location",
        cluster_field="video_id",
        # The file's `text` as it stands, behind the clip and its sound.
        prompt="CLIP SOUND QUESTION",
        chance=0.5,
        layout=("json/*.json", "video"),
        citation="arXiv 2410.18325",
    ),
    read=read,
)
