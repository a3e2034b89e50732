"""modelnet40: which of forty classes is this point cloud? Closed set, read by text match.

The authors let GPT map free text to a class, and guess where that fails; here a reply counts if it
names exactly one class, and their substring test stands beside it.
"""

from collections.abc import Iterator
from pathlib import Path

from omnicompose.evaluation.sample import Sample
from omnicompose.evaluation.task import TaskSpec
from omnicompose.evaluation.tasks.files import FileTask, shown
from omnicompose.evaluation.tasks.records import Record, json_list

FILE = "modelnet40-test.json"
QUESTION = "What is this?"
# fmt: off
CLASSES = (
    "airplane", "bathtub", "bed", "bench", "bookshelf", "bottle", "bowl", "car", "chair", "cone",
    "cup", "curtain", "desk", "door", "dresser", "flower pot", "glass box", "guitar", "keyboard",
    "lamp", "laptop", "mantel", "monitor", "night stand", "person", "piano", "plant", "radio",
    "range hood", "sink", "sofa", "stairs", "stool", "table", "tent", "toilet", "tv stand",
    "vase", "wardrobe", "xbox",
)
# fmt: on


def read(folder: Path) -> Iterator[Sample]:
    """The entries of `modelnet40-test.json`: id, label_name, modal_inputs.point."""
    for record in json_list(folder / FILE):
        label = record.one_of("label_name", CLASSES)
        yield Sample(
            id=record.name("id"),
            cluster=record.name("id"),
            content=(shown("point", _points(record, folder)), QUESTION),
            choices=CLASSES,
            answer=label,
            reading="mention",
            category=CLASSES[label],
        )


def _points(record: Record, folder: Path) -> Path:
    return folder / record.record("modal_inputs").texts("point")[0]


TASK = FileTask(
    spec=TaskSpec(
        name="modelnet40",
        version=1,
        summary="Which of forty classes is this point cloud? Retention of a point expert.",
        location="ModelNet40's test split as 8192 points with colour (N, 6) in .npy files, listed "
        "in modelnet40-test.json; ModelCompose's data (arXiv 2402.12750)",
        licence="the authors' own terms: read them at the location",
        cluster_field="id: every question has a cloud of its own",
        # PointLLM's first prompt, byte for byte.
        prompt="CLOUD " + QUESTION,
        chance=1 / 40,
        official="names_target",
        max_new_tokens=128,
        layout=(FILE,),
        citation="Wu et al., ModelNet, CVPR 2015; arXiv 2308.16911",
    ),
    read=read,
)
