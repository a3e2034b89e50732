"""zoo/mcub: what do these inputs have in common? After MCUB (arXiv 2402.12750), on zoo media.

Options are drawn first and only sets of which each could be the answer, so that a reader of the
options alone is at chance; wrong options are true of some of the inputs, so that one input alone
does not suffice (omnicompose/zoo/options.py).
"""

from omnicompose.evaluation.task import TaskSpec
from omnicompose.evaluation.tasks.zoo import CLUSTER_FIELD, LICENCE, LOCATION, ZooTask
from omnicompose.zoo.questions import common_text

TASK = ZooTask(
    spec=TaskSpec(
        name="zoo/mcub",
        version=1,
        summary="What do two or three inputs of different modalities have in common? 4 options.",
        location=LOCATION,
        licence=LICENCE,
        cluster_field=CLUSTER_FIELD,
        # The media stand first, each on its own line; the reply follows the turn without a space.
        prompt="MEDIA" + common_text(("...",) * 4),
        chance=0.25,
    ),
    kind="mcub",
    groups=(
        ("image", "audio", "video"),
        ("image", "audio"),
        ("image", "video"),
        ("audio", "video"),
    ),
)
