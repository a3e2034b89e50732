"""mcub-built: questions that `omnicompose mcub build` made, asked as MCUB's are."""

from omnicompose.evaluation.tasks.files import FileTask
from omnicompose.evaluation.tasks.mcub import mcub_spec, read_mcub

FILE = "MCUB-built.json"

TASK = FileTask(
    spec=mcub_spec(
        "mcub-built",
        FILE,
        summary="Your own media: questions that `omnicompose mcub build` made of captions.",
        location="`omnicompose mcub build CAPTIONS --out DATA/mcub-built`",
        licence="of your media",
        cluster_field="the first input's file",
    ),
    read=lambda folder: read_mcub(folder, FILE),
)
